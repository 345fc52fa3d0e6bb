//! Credit: how much of a channel may be under way, counted on both of its ends.
//!
//! The receiver grants batches and bytes when the connection is made, and gives back what its task has taken. A
//! sender with any credit left may send one message, however large: so a batch of more than the whole credit
//! goes through, and what is under way exceeds it by less than one message. What was taken is given back in
//! lots of half the credit, not one by one: a sender that has none left has sent all of it, and what it waits
//! for is more than a lot.
//!
//! Pure machines; who waits and who is woken is decided here, waking is somebody else's.

use crate::exchange::channel::CREDIT_BATCHES;

/// An amount of credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) messages: u32,
    pub(super) bytes: u64,
}

/// What a sender may send.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    messages: u32,
    bytes: i64,
    n_under_way: u32,
    /// Whether the sender could not send and was not woken since.
    is_waited_for: bool,
    has_begun: bool,
}

impl Allowance {
    /// Whether a message may be sent. If not, the sender is woken when it may be, and need not ask before.
    pub(super) fn ask(&mut self) -> bool {
        if self.is_waited_for {
            return false;
        }
        self.is_waited_for = self.messages == 0 || self.bytes <= 0;
        !self.is_waited_for
    }

    /// Something else than credit lacks.
    pub(super) fn wait(&mut self) {
        self.is_waited_for = true;
    }

    /// There may be what lacked; whether to wake the sender.
    pub(super) fn stop_waiting(&mut self) -> bool {
        std::mem::take(&mut self.is_waited_for)
    }

    /// A message of so many bytes was sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub_unsigned(bytes as u64);
        self.n_under_way += 1;
    }

    /// It was not sent after all.
    pub(super) fn refund(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add_unsigned(bytes as u64);
        self.n_under_way = self.n_under_way.saturating_sub(1);
    }

    /// Credit has come, the first or back (one more message than was granted: an end needs none); whether to wake the sender. An amount that no receiver grants is
    /// an error.
    pub(super) fn grant(&mut self, amount: Amount) -> Result<bool, TooMuch> {
        let messages = self.messages.checked_add(amount.messages).ok_or(TooMuch)?;
        self.bytes = self.bytes.checked_add_unsigned(amount.bytes).ok_or(TooMuch)?;
        if messages as usize > CREDIT_BATCHES + 1 {
            return Err(TooMuch);
        }
        self.messages = messages;
        if std::mem::replace(&mut self.has_begun, true) {
            self.n_under_way = self.n_under_way.checked_sub(amount.messages).ok_or(TooMuch)?;
        }
        let may_send = self.messages > 0 && self.bytes > 0;
        Ok(may_send && std::mem::take(&mut self.is_waited_for))
    }
}

/// More credit than was ever given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// What a receiver has to give back.
#[derive(Debug)]
pub(super) struct Returns {
    owed: Amount,
    /// What is given back at once.
    lot: Amount,
}

impl Returns {
    /// Of a channel that was granted so much.
    pub(super) fn of(granted: Amount) -> Returns {
        let lot = Amount { messages: granted.messages / 2, bytes: granted.bytes / 2 };
        Returns { owed: Amount::default(), lot }
    }

    /// The task took a message. What to give back now.
    pub(super) fn take(&mut self, bytes: usize) -> Option<Amount> {
        self.owed.messages += 1;
        self.owed.bytes += bytes as u64;
        let is_due = self.owed.messages >= self.lot.messages || self.owed.bytes > self.lot.bytes;
        is_due.then(|| std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn amount(messages: u32, bytes: u64) -> Amount {
        Amount { messages, bytes }
    }

    fn granted(messages: u32, bytes: u64) -> Allowance {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.grant(amount(messages, bytes)), Ok(false));
        allowance
    }

    #[test]
    fn nothing_is_sent_before_the_first_credit_and_it_wakes() {
        let mut allowance = Allowance::default();
        assert!(!allowance.ask() && !allowance.ask());
        assert_eq!(allowance.grant(amount(16, 100)), Ok(true));
        assert!(allowance.ask());
        allowance.spend(10);
        assert_eq!(allowance.grant(amount(1, 10)), Ok(false), "nobody waits");
    }

    #[test]
    fn messages_and_bytes_both_end() {
        let mut allowance = granted(2, 100);
        for _ in 0..2 {
            assert!(allowance.ask());
            allowance.spend(1);
        }
        assert!(!allowance.ask(), "no message is left");
        assert_eq!(allowance.grant(amount(1, 1)), Ok(true));
        assert!(allowance.ask());
        allowance.spend(500);
        assert!(!allowance.ask(), "no bytes are left");
        assert_eq!(allowance.grant(amount(1, 1)), Ok(false), "still none");
        assert!(!allowance.ask());
        assert_eq!(allowance.grant(amount(1, 500)), Ok(true));
        assert!(allowance.ask());
    }

    #[test]
    fn who_lacks_something_else_is_woken_by_whatever_comes() {
        let mut allowance = granted(2, 100);
        allowance.spend(1);
        allowance.wait();
        assert!(!allowance.ask() && allowance.stop_waiting() && allowance.ask());
        assert!(!allowance.stop_waiting(), "nobody waits");
        allowance.wait();
        assert_eq!(allowance.grant(amount(1, 1)), Ok(true));
    }

    #[test]
    fn credit_that_was_never_given_is_an_error() {
        assert_eq!(granted(16, 1).grant(amount(1, 0)), Err(TooMuch));
        assert_eq!(granted(1, 1).grant(amount(1, 0)), Err(TooMuch));
        assert_eq!(granted(1, u64::MAX / 2).grant(amount(0, u64::MAX)), Err(TooMuch));
    }

    #[test]
    fn what_was_taken_is_given_back_in_lots() {
        let mut returns = Returns::of(amount(8, 400));
        let given: Vec<_> = (0..4).map(|_| returns.take(10)).collect();
        assert_eq!(given, [None, None, None, Some(amount(4, 40))]);
        assert_eq!((returns.take(200), returns.take(1)), (None, Some(amount(2, 201))));
    }

    proptest! {
        /// Any interleaving of sending, carrying, taking and giving back comes to an end with everything sent, and
        /// never exceeds the credit by more than one message.
        #[test]
        fn a_channel_never_stalls_and_stays_within_its_credit(
            sizes in proptest::collection::vec(1usize..60, 1..80),
            window in 1u64..200,
            choices in proptest::collection::vec(0..4u8, 0..200),
        ) {
            let granted = amount(CREDIT_BATCHES as u32, window);
            let (mut allowance, mut returns) = (Allowance::default(), Returns::of(granted));
            allowance.grant(granted).unwrap();
            let mut to_send: VecDeque<usize> = sizes.iter().copied().collect();
            let mut is_awake = true;
            let (mut wire, mut queue, mut credits) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
            let rest = (0..4).cycle().take(4 * 4 * sizes.len() + 16);
            for choice in choices.into_iter().chain(rest) {
                match choice {
                    0 if is_awake => match to_send.front() {
                        Some(&size) if allowance.ask() => {
                            to_send.pop_front();
                            allowance.spend(size);
                            wire.push_back(size);
                        }
                        _ => is_awake = false,
                    },
                    1 => queue.extend(wire.pop_front()),
                    2 => if let Some(size) = queue.pop_front() {
                        credits.extend(returns.take(size));
                    },
                    3 => if let Some(credit) = credits.pop_front() {
                        is_awake |= allowance.grant(credit).unwrap();
                    },
                    _ => {}
                }
                let under_way: Vec<usize> = queue.iter().chain(&wire).copied().collect();
                prop_assert!(under_way.len() <= CREDIT_BATCHES);
                let (last, all) = (under_way.last().copied().unwrap_or(0), under_way.iter().sum::<usize>());
                prop_assert!((all - last) as u64 <= window, "{all} bytes of {window}");
            }
            prop_assert!(to_send.is_empty(), "{} messages are left", to_send.len());
        }
    }
}

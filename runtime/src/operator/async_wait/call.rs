//! A request as a value, with layers around it: a limit of time, further attempts.
//!
//! Layers apply in the order in which they are written. `.timeout(t).retry(r)` limits each attempt;
//! `.retry(r).timeout(t)` limits all of them together. How the results of many calls are put in order is
//! part of the value too, so that an `async_map` is told everything in one place.

use super::{AsyncOrder, DEFAULT_ASYNC_CAPACITY};
use millstream_model::{Domain, Error, Result};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type Response<O> = Pin<Box<dyn Future<Output = Result<O>> + Send>>;

/// An asynchronous function from a record to a result. Runs on the threads of a tokio runtime. See the
/// module's text.
pub struct AsyncCall<I, O> {
    call: Arc<dyn Fn(I) -> Response<O> + Send + Sync>,
    order: AsyncOrder,
    capacity: usize,
}

impl<I, O> Clone for AsyncCall<I, O> {
    fn clone(&self) -> Self {
        AsyncCall { call: Arc::clone(&self.call), ..*self }
    }
}

impl<I, O> fmt::Debug for AsyncCall<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsyncCall")
    }
}

impl<I: Send + 'static, O: Send + 'static> AsyncCall<I, O> {
    /// The call of `function`.
    pub fn new<F, R>(function: F) -> Self
    where
        F: Fn(I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O>> + Send + 'static,
    {
        AsyncCall {
            call: Arc::new(move |input| Box::pin(function(input))),
            order: AsyncOrder::Ordered,
            capacity: DEFAULT_ASYNC_CAPACITY,
        }
    }

    /// Lets results leave as they complete, but never across a watermark; otherwise they leave in the order
    /// of their records.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.order = AsyncOrder::Unordered;
        self
    }

    /// Limits how many calls a subtask has under way, results that wait for their turn included; the
    /// default is [`DEFAULT_ASYNC_CAPACITY`]. At least one is.
    #[must_use]
    pub fn capacity(mut self, calls: usize) -> Self {
        self.capacity = calls.max(1);
        self
    }

    /// In which order results leave.
    pub(super) fn order(&self) -> AsyncOrder {
        self.order
    }

    /// The most calls under way in a subtask.
    pub(super) fn most_under_way(&self) -> usize {
        self.capacity
    }

    /// Another function around this call.
    fn layered<F, R>(&self, function: F) -> Self
    where
        F: Fn(I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O>> + Send + 'static,
    {
        AsyncCall { order: self.order, capacity: self.capacity, ..AsyncCall::new(function) }
    }

    /// The result for one record.
    pub(super) fn start(&self, input: I) -> Response<O> {
        (self.call)(input)
    }

    /// Makes a call that takes longer than `limit` fail.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        let call = self.clone();
        self.layered(move |input| {
            let call = call.clone();
            async move {
                match tokio::time::timeout(limit, call.start(input)).await {
                    Ok(result) => result,
                    Err(_) => Err(Error::external(format!(
                        "an asynchronous call took longer than {limit:?}: raise the timeout, retry, or give a fallback"
                    ))),
                }
            }
        })
    }

    /// Takes what `fallback` makes of the record when a call takes longer than `limit`.
    #[must_use]
    pub fn timeout_or<F>(self, limit: Duration, fallback: F) -> Self
    where
        I: Clone,
        F: Fn(I) -> Result<O> + Send + Sync + 'static,
    {
        let (call, fallback) = (self.clone(), Arc::new(fallback));
        self.layered(move |input: I| {
            let (call, fallback) = (call.clone(), Arc::clone(&fallback));
            async move {
                match tokio::time::timeout(limit, call.start(input.clone())).await {
                    Ok(result) => result,
                    Err(_) => fallback(input),
                }
            }
        })
    }

    /// Makes a call that failed again, with a pause before each further attempt.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self
    where
        I: Clone,
    {
        let call = self.clone();
        self.layered(move |input: I| {
            let call = call.clone();
            async move {
                for attempt in 1.. {
                    match call.start(input.clone()).await {
                        Ok(result) => return Ok(result),
                        Err(error) if !(retry.when)(&error) => return Err(error),
                        Err(error) if attempt >= retry.attempts => {
                            return Err(given_up(attempt, error));
                        }
                        Err(error) => {
                            tracing::debug!(attempt, %error, "an asynchronous call is repeated");
                            tokio::time::sleep(retry.pause(attempt)).await;
                        }
                    }
                }
                unreachable!("the last attempt returns")
            }
        })
    }
}

/// The last error, and that it was not the first.
fn given_up(attempts: u32, last: Error) -> Error {
    if attempts == 1 {
        return last;
    }
    let message = format!("an asynchronous call failed {attempts} times");
    let error = match last.domain() {
        Domain::User => Error::user(message),
        Domain::External => Error::external(message),
        Domain::Internal => Error::internal(message),
    };
    error.caused_by(last)
}

/// How often a call is made, and how long to wait between two attempts.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    attempts: u32,
    first: Duration,
    factor: u32,
    most: Duration,
    when: fn(&Error) -> bool,
}

impl Retry {
    /// At most `attempts` calls in all, `pause` between two.
    pub const fn fixed(attempts: u32, pause: Duration) -> Self {
        Retry { attempts, first: pause, factor: 1, most: pause, when: |_| true }
    }

    /// At most `attempts` calls in all; the pause is `first`, then twice as long each time, at most `most`.
    pub const fn exponential(attempts: u32, first: Duration, most: Duration) -> Self {
        Retry { attempts, first, factor: 2, most, when: |_| true }
    }

    /// Repeats only after errors of which `when` says so; by default after all.
    #[must_use]
    pub const fn only_if(mut self, when: fn(&Error) -> bool) -> Self {
        self.when = when;
        self
    }

    /// The pause after this attempt, counted from 1.
    fn pause(&self, attempt: u32) -> Duration {
        let factor = self.factor.saturating_pow(attempt - 1);
        self.first.saturating_mul(factor).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn wait<O>(future: impl Future<Output = O>) -> O {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(future)
    }

    /// Fails so often, then gives the number of the attempt.
    fn flaky(failures: u32) -> AsyncCall<&'static str, u32> {
        let attempts = AtomicU32::new(0);
        AsyncCall::new(move |what| {
            let attempt = attempts.fetch_add(1, Ordering::SeqCst) + 1;
            async move { if attempt > failures { Ok(attempt) } else { Err(Error::external(what)) } }
        })
    }

    fn never() -> AsyncCall<&'static str, u32> {
        AsyncCall::new(|_| std::future::pending())
    }

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn a_call_is_repeated_until_it_succeeds_or_attempts_run_out() {
        assert_eq!(wait(flaky(2).retry(Retry::fixed(3, TICK)).start("down")).unwrap(), 3);
        let error = wait(flaky(3).retry(Retry::fixed(3, TICK)).start("down")).unwrap_err();
        assert_eq!(error.to_string(), "an asynchronous call failed 3 times: down");
        assert_eq!(error.domain(), Domain::External);
        let error = wait(flaky(1).retry(Retry::fixed(1, TICK)).start("down")).unwrap_err();
        assert_eq!(error.to_string(), "down");
    }

    #[test]
    fn some_errors_are_not_worth_another_attempt() {
        let retry = Retry::fixed(9, TICK).only_if(|e| e.message() == "busy");
        assert_eq!(wait(flaky(2).retry(retry).start("busy")).unwrap(), 3);
        assert_eq!(wait(flaky(2).retry(retry).start("down")).unwrap_err().to_string(), "down");
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let retry = Retry::exponential(99, TICK, 5 * TICK);
        assert_eq!(
            [1, 2, 3, 4, 90].map(|n| retry.pause(n) / TICK.as_millis() as u32),
            [1, 2, 4, 5, 5].map(Duration::from_millis)
        );
        assert_eq!(Retry::fixed(3, TICK).pause(90), TICK);
    }

    #[test]
    fn slow_calls_fail_or_fall_back() {
        let error = wait(never().timeout(TICK).start("x")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "an asynchronous call took longer than 1ms: raise the timeout, retry, or give a fallback"
        );
        let call = never().timeout_or(TICK, |what| Ok(what.len() as u32));
        assert_eq!(wait(call.start("four")).unwrap(), 4);
        assert_eq!(wait(flaky(0).timeout(Duration::MAX).start("x")).unwrap(), 1);
    }

    #[test]
    fn layers_apply_in_the_order_they_are_written() {
        let each = never().timeout(TICK).retry(Retry::fixed(2, TICK));
        let error = wait(each.start("x")).unwrap_err().to_string();
        assert!(error.starts_with("an asynchronous call failed 2 times: "), "{error}");
        let all = flaky(u32::MAX).retry(Retry::fixed(u32::MAX, TICK)).timeout(3 * TICK);
        let error = wait(all.start("x")).unwrap_err().to_string();
        assert!(error.starts_with("an asynchronous call took longer than 3ms"), "{error}");
    }
}

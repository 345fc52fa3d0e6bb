//! What two hosts say to each other before anything else.
//!
//! Who connects names the job, the attempt and itself, and shows the job's secret; who listens welcomes it or
//! says why not, in words that the other side's error shows. The magic comes first, so that whatever else may
//! knock at the port is turned away after four bytes.

use millstream_model::{Error, Result};
use std::fmt;

/// What every connection begins with.
pub(super) const MAGIC: [u8; 4] = *b"MSNX";
/// Grows with every change of anything that is sent.
const VERSION: u16 = 1;
/// Bytes of a secret, at most.
pub(super) const MAX_TOKEN: usize = 256;
/// Bytes of a hello before its token.
pub(super) const HELLO_BYTES: usize = 36;
/// Bytes of an answer before its reason.
pub(super) const ANSWER_BYTES: usize = 9;
/// Bytes of a reason, at most.
const MAX_REASON: usize = 512;

/// What the connecting host says.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) job: u128,
    pub(super) attempt: u32,
    /// Numbers of the hosts: who speaks, and who is meant.
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) token: Vec<u8>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hello { job, attempt, from, to, .. } = self;
        write!(f, "host {from} to {to}, job {job:032x}, attempt {attempt}")
    }
}

impl Hello {
    /// As bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.job.to_le_bytes());
        for number in [self.attempt, self.from, self.to] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.token.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.token);
        out
    }

    /// From the bytes before the token; and how long the token is.
    ///
    /// # Errors
    /// If it is not a hello, or one of another protocol.
    pub(super) fn of(bytes: &[u8; HELLO_BYTES]) -> Result<(Hello, usize)> {
        let mut rest = &bytes[..];
        check_start(&mut rest)?;
        let mut hello = Hello {
            job: u128::from_le_bytes(take(&mut rest)?),
            attempt: u32::from_le_bytes(take(&mut rest)?),
            from: u32::from_le_bytes(take(&mut rest)?),
            to: u32::from_le_bytes(take(&mut rest)?),
            token: Vec::new(),
        };
        let n_token = u16::from_le_bytes(take(&mut rest)?) as usize;
        if n_token > MAX_TOKEN {
            return Err(Error::external("a secret that is too long"));
        }
        hello.token = Vec::with_capacity(n_token);
        Ok((hello, n_token))
    }
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differs = a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differs) == 0
}

/// What the listening host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Welcome,
    Refused(String),
}

impl Answer {
    /// As bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        let reason = match self {
            Answer::Welcome => "",
            Answer::Refused(reason) => cut(reason),
        };
        out.push(u8::from(*self != Answer::Welcome));
        out.extend_from_slice(&(reason.len() as u16).to_le_bytes());
        out.extend_from_slice(reason.as_bytes());
        out
    }

    /// From the bytes before the reason, as a refusal whose reason of so many bytes has yet to be read; `None` is
    /// a welcome.
    ///
    /// # Errors
    /// If it is not an answer, or one of another protocol.
    pub(super) fn of(bytes: &[u8; ANSWER_BYTES]) -> Result<Option<usize>> {
        let mut rest = &bytes[..];
        check_start(&mut rest)?;
        let [is_refused] = take(&mut rest)?;
        let n_reason = u16::from_le_bytes(take(&mut rest)?) as usize;
        match is_refused {
            0 if n_reason == 0 => Ok(None),
            1 if n_reason <= MAX_REASON => Ok(Some(n_reason)),
            _ => Err(Error::external("an answer that makes no sense")),
        }
    }
}

/// What fits of a reason.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

fn check_start(rest: &mut &[u8]) -> Result<()> {
    if take(rest)? != MAGIC {
        return Err(Error::external("what answers there does not speak this protocol"));
    }
    match u16::from_le_bytes(take(rest)?) {
        VERSION => Ok(()),
        other => Err(Error::external(format!(
            "the other host speaks version {other} of the protocol, this one {VERSION}: all hosts of a job \
             must run the same program"
        ))),
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (taken, rest) =
        bytes.split_first_chunk().ok_or_else(|| Error::external("it is cut off"))?;
    *bytes = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello { job: u128::MAX / 3, attempt: 7, from: 1, to: 2, token: b"secret".to_vec() }
    }

    fn start<const N: usize>(bytes: &[u8]) -> &[u8; N] {
        bytes.first_chunk().unwrap()
    }

    #[test]
    fn what_is_said_is_understood() {
        let bytes = hello().to_bytes();
        let (mut read, n_token) = Hello::of(start(&bytes)).unwrap();
        read.token.extend_from_slice(&bytes[HELLO_BYTES..]);
        assert_eq!((read, n_token), (hello(), 6));
        assert_eq!(Answer::of(start(&Answer::Welcome.to_bytes())).unwrap(), None);
        let refused = Answer::Refused("é".repeat(400)).to_bytes();
        assert_eq!(Answer::of(start(&refused)).unwrap(), Some(refused.len() - ANSWER_BYTES));
    }

    #[test]
    fn what_is_not_said_so_is_refused() {
        let refused = |at: usize, byte: u8| {
            let mut bytes = hello().to_bytes();
            bytes[at] = byte;
            Hello::of(start(&bytes)).unwrap_err().to_string()
        };
        assert!(refused(0, b'G').contains("does not speak this protocol"));
        assert!(refused(4, 9).contains("version 9"));
        assert!(refused(35, 9).contains("too long"));
        for (at, byte) in [(0, 0), (4, 0), (6, 2), (7, 1), (8, 3)] {
            let mut bytes = Answer::Welcome.to_bytes();
            bytes[at] = byte;
            assert!(Answer::of(start(&bytes)).is_err(), "{at}");
        }
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(is_same(b"abc", b"abc") && is_same(b"", b""));
        assert!(!is_same(b"abc", b"abd") && !is_same(b"abc", b"ab") && !is_same(b"", b"a"));
    }
}

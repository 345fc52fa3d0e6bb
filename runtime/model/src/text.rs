//! Text that is cheap to pass on.
//!
//! Strings freed on another thread are the largest single cost of text jobs: a `String` a word means one
//! allocation there and one free here. A `Text` of up to [`INLINE`] bytes lives in place; a longer one is
//! a range of a shared buffer, so that cutting a line into fields or cloning a record copies no bytes. It
//! serialises, compares and hashes like `str`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Longest text, in bytes, that needs no buffer.
pub const INLINE: usize = 22;

/// A piece of UTF-8 text. See the module's text.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    // Boxed again so that the handle is one word and the whole `Text` three.
    Shared { buffer: Arc<Box<str>>, start: u32, len: u32 },
}

impl Text {
    /// The empty text.
    pub const EMPTY: Text = Text(Repr::Inline { len: 0, bytes: [0; INLINE] });

    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // SAFETY: `bytes[..len]` is always copied whole from a `str`, and the only change in place
            // (`lower_ascii`) maps ASCII to ASCII. Checking again would cost more than hashing a word.
            #[allow(unsafe_code)]
            Repr::Inline { len, bytes } => unsafe {
                std::str::from_utf8_unchecked(&bytes[..usize::from(*len)])
            },
            Repr::Shared { buffer, start, len } => {
                &buffer[*start as usize..(*start + *len) as usize]
            }
        }
    }

    /// The text's bytes: what hashing and comparing look at.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared { buffer, start, len } => {
                &buffer.as_bytes()[*start as usize..(*start + *len) as usize]
            }
        }
    }

    /// The piece `range` (in bytes) of this text, sharing its buffer if it is long.
    ///
    /// # Panics
    /// If the range is out of bounds or cuts a character, as `str` indexing does.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Text {
        let piece = &self.as_str()[range.clone()];
        match &self.0 {
            Repr::Shared { buffer, start, .. } if piece.len() > INLINE => Text(Repr::Shared {
                buffer: Arc::clone(buffer),
                start: start + range.start as u32,
                len: piece.len() as u32,
            }),
            _ => Text::from(piece),
        }
    }

    /// The given part of this text, found by address: for pieces cut by `split`, `trim` and the like.
    ///
    /// Shares the buffer if `part` is long and lies in it, else copies.
    #[must_use]
    pub fn slice_of(&self, part: &str) -> Text {
        if part.len() > INLINE {
            let (base, at) = (self.as_str().as_ptr() as usize, part.as_ptr() as usize);
            if let Some(offset) = at.checked_sub(base)
                && offset + part.len() <= self.as_str().len()
            {
                return self.slice(offset..offset + part.len());
            }
        }
        Text::from(part)
    }

    /// An ASCII-lower-cased copy of `text`, built in place when short.
    #[must_use]
    #[inline]
    pub fn lower_ascii(text: &str) -> Text {
        if text.len() <= INLINE {
            let mut t = Text::from(text);
            if let Repr::Inline { bytes, .. } = &mut t.0 {
                // All of it: what lies behind the text is zero and stays so.
                bytes.make_ascii_lowercase();
            }
            return t;
        }
        Text::from(text.to_ascii_lowercase())
    }
}

impl From<&str> for Text {
    #[inline]
    fn from(s: &str) -> Self {
        if s.len() <= INLINE {
            let mut bytes = [0; INLINE];
            copy_short(s.as_bytes(), &mut bytes);
            Text(Repr::Inline { len: s.len() as u8, bytes })
        } else {
            Text::from(s.to_owned())
        }
    }
}

impl From<String> for Text {
    fn from(s: String) -> Self {
        if s.len() <= INLINE {
            return Text::from(s.as_str());
        }
        let len = bounded_len(&s);
        Text(Repr::Shared { buffer: Arc::new(s.into_boxed_str()), start: 0, len })
    }
}

/// Copies up to [`INLINE`] bytes with overlapping words: a `memcpy` of unknown length is a call, and its
/// branches are mispredicted for every other word of a text.
#[inline(always)]
fn copy_short(from: &[u8], to: &mut [u8; INLINE]) {
    let n = from.len();
    match n {
        0 => {}
        1..4 => {
            to[0] = from[0];
            to[n / 2] = from[n / 2];
            to[n - 1] = from[n - 1];
        }
        4..8 => {
            to[..4].copy_from_slice(&from[..4]);
            to[n - 4..n].copy_from_slice(&from[n - 4..]);
        }
        8..16 => {
            to[..8].copy_from_slice(&from[..8]);
            to[n - 8..n].copy_from_slice(&from[n - 8..]);
        }
        _ => {
            to[..16].copy_from_slice(&from[..16]);
            to[n - 8..n].copy_from_slice(&from[n - 8..]);
        }
    }
}

/// Lengths are 32-bit: a text beyond 4 GiB is cut at construction nowhere else but here, and a record of
/// that size cannot pass the exchange anyway.
fn bounded_len(s: &str) -> u32 {
    u32::try_from(s.len()).unwrap_or_else(|_| panic!("a Text holds at most 4 GiB, not {}", s.len()))
}

impl Default for Text {
    fn default() -> Self {
        Text::EMPTY
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // What lies behind the text is zero in both: a compare of fixed size is a few instructions.
            (Repr::Inline { len: a, bytes: x }, Repr::Inline { len: b, bytes: y }) => {
                a == b && x == y
            }
            _ => self.as_bytes() == other.as_bytes(),
        }
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Text, E> {
                Ok(Text::from(s))
            }
        }
        d.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_texts_behave_like_str() {
        for s in ["", "a", "exactly twenty-two byt", "something longer than that, which is shared"]
        {
            let t = Text::from(s);
            assert_eq!((t.as_str(), t.len()), (s, s.len()));
            assert_eq!(t, Text::from(s.to_string()));
            assert_eq!(t.to_string(), s);
        }
        assert_eq!(std::mem::size_of::<Text>(), 24);
    }

    #[test]
    fn slices_share_the_buffer_when_long() {
        let line =
            Text::from("a first field that is long enough,and a second one that is long as well");
        let field = line.split(',').nth(1).map(|p| line.slice_of(p)).unwrap();
        assert_eq!(field, "and a second one that is long as well");
        let Repr::Shared { start, .. } = field.0 else { panic!("a long slice is shared") };
        assert_eq!(start, 34);
        assert_eq!(
            line.slice_of("foreign text that is not part of the line"),
            "foreign text that is not part of the line"
        );
    }

    #[test]
    fn lower_ascii_leaves_other_characters_alone() {
        assert_eq!(Text::lower_ascii("GÖd"), "gÖd");
    }
}

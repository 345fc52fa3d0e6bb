//! The program's side of a schema: which shape a type has, what its version is called, and what to do with
//! bytes of an earlier one.
//!
//! A [`Schema`] is a constant, as the descriptors it belongs to, so it holds functions instead of what they
//! tell. Nobody needs one whose types serde describes and whose changes are matters of names: that is
//! [`Schema::recorded`]. The version is a name for a change that shapes do not show (seconds became
//! milliseconds): if it differs and there is a migration function, that decides, whatever the shapes say.

use super::compatible::{Compatibility, compatible};
use super::decode::{decode_as, encoded_len};
use super::input::counts_empty;
use super::shape::Shape;
use crate::codec;
use millstream_model::{Error, Result};
use serde::de::DeserializeOwned;
use std::any::type_name;

/// A type that says itself what its bytes look like, because it cannot be recorded.
///
/// It must be what the codec writes for it: if it is written by `serialize_str`, [`Shape::Text`];
/// [`Shape::opaque`] if there are no words for it. [`Shape::admits`] holds values against it.
pub trait StateSchema {
    /// The shape.
    fn shape() -> Shape;
}

/// Makes a value of bytes that were written as something else.
pub type Migration<V> = fn(&mut Stored<'_>) -> Result<V>;

/// How the values of a state are described and read. See the module's text.
///
/// ```
/// use millstream_state::schema::{Schema, Stored};
///
/// // Version 0 held seconds.
/// const PAUSE: Schema<u64> =
///     Schema::recorded().version(1).migrate(|old: &mut Stored<'_>| Ok(old.read::<u64>()? * 1000));
/// assert!(PAUSE.shape().is_ok());
/// ```
pub struct Schema<V> {
    shape: fn() -> Result<Shape>,
    version: u32,
    migration: Option<Migration<V>>,
}

impl<V> Clone for Schema<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Schema<V> {}

impl<V> Schema<V> {
    /// The schema of a type whose shape serde tells, version 0.
    pub const fn recorded() -> Self
    where
        V: DeserializeOwned + 'static,
    {
        Schema { shape: Shape::of::<V>, version: 0, migration: None }
    }

    /// The schema of a type that says its shape itself, version 0.
    pub const fn declared() -> Self
    where
        V: StateSchema,
    {
        Schema { shape: || Ok(V::shape()), version: 0, migration: None }
    }

    /// Calls this version of the type `version`.
    #[must_use]
    pub const fn version(self, version: u32) -> Self {
        Schema { version, ..self }
    }

    /// Reads values of other versions, and of shapes that cannot be read by name, with `migration`.
    #[must_use]
    pub const fn migrate(self, migration: Migration<V>) -> Self {
        Schema { migration: Some(migration), ..self }
    }

    /// The shape.
    ///
    /// # Errors
    /// As [`Shape::of`].
    pub fn shape(&self) -> Result<Shape> {
        (self.shape)()
    }

    /// What the program calls this version.
    pub fn version_number(&self) -> u32 {
        self.version
    }

    /// How values of shape `written` and of that version are read. Ask once for all of them.
    ///
    /// # Errors
    /// If they cannot be read: with both shapes.
    pub fn reader<'w>(&self, written: &'w Shape, version: u32) -> Result<Reader<'w, V>> {
        let current = self.shape()?;
        let way = match (self.migration, compatible(written, &current)) {
            (Some(migration), _) if version != self.version => Way::Migrated(migration),
            (_, Compatibility::Same) if counts_empty(written) && !written.has_opaque() => {
                Way::ByName
            }
            (_, Compatibility::Same) => Way::Same,
            (_, Compatibility::Migrates) => Way::ByName,
            (Some(migration), Compatibility::Refused(_)) => Way::Migrated(migration),
            (None, Compatibility::Refused(reason)) => {
                return Err(Error::user(format!(
                    "stored values cannot be read as `{}`: {reason}; undo the change or give the state a \
                     migration function (`Schema::migrate`). Written (version {version}):\n{written}\nNow \
                     (version {}):\n{current}",
                    type_name::<V>(),
                    self.version
                )));
            }
        };
        Ok(Reader { way, written, version })
    }
}

/// Reads stored values of one shape and version.
pub struct Reader<'w, V> {
    way: Way<V>,
    written: &'w Shape,
    version: u32,
}

enum Way<V> {
    Same,
    ByName,
    Migrated(Migration<V>),
}

impl<V: DeserializeOwned> Reader<'_, V> {
    /// Reads the value at the beginning of `bytes`; also how many bytes it took.
    ///
    /// # Errors
    /// If they are not the bytes of such a value; the errors of the migration function.
    #[inline]
    pub fn read(&self, bytes: &[u8]) -> Result<(V, usize)> {
        match self.way {
            Way::Same => codec::decode(bytes),
            Way::ByName => decode_as(bytes, self.written),
            Way::Migrated(migration) => {
                let mut stored =
                    Stored { bytes, written: self.written, version: self.version, taken: 0 };
                let value = migration(&mut stored)?;
                match stored.taken {
                    // It made a value of its own accord.
                    0 => Ok((value, encoded_len(bytes, self.written)?)),
                    taken => Ok((value, taken)),
                }
            }
        }
    }
}

/// A stored value that a migration function is to read.
pub struct Stored<'a> {
    bytes: &'a [u8],
    written: &'a Shape,
    version: u32,
    taken: usize,
}

impl Stored<'_> {
    /// What the program called the version of the type when it was written.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The shape it was written in.
    pub fn shape(&self) -> &Shape {
        self.written
    }

    /// Reads it as an `Old`: the type as it was, or any that its shape can be read as. May be called again.
    ///
    /// # Errors
    /// As [`decode_as`]; an opaque value is read as `Old` whatever it is.
    pub fn read<Old: DeserializeOwned>(&mut self) -> Result<Old> {
        let (old, taken) = if self.written.has_opaque() {
            codec::decode(self.bytes)?
        } else {
            decode_as(self.bytes, self.written)?
        };
        self.taken = taken;
        Ok(old)
    }
}

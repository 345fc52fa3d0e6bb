//! The shape of a type, as serde sees it: everything that its bytes depend on, and what is needed to find
//! its fields and variants again by name.
//!
//! Shapes are trees, kept in snapshots as they are, so that a snapshot can be read by a program that has
//! never seen the type. A newtype has the shape of what it wraps: the codec writes nothing for it, so
//! `struct Id(u64)` and `u64` have the same bytes, and wrapping a value is no change. A type that contains
//! itself is cut at [`Shape::Recursive`], which says how far out the shape meant stands.

use millstream_model::{Error, Result};
use serde::{Deserialize, Serialize};

/// What the bytes of a type look like. See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// `()` or a unit struct.
    Unit,
    /// A truth value.
    Bool,
    /// An integer of so many bits.
    Int {
        /// 8, 16, 32, 64 or 128.
        bits: u8,
        /// Whether it has a sign.
        signed: bool,
    },
    /// A floating-point number of 32 or 64 bits.
    Float {
        /// 32 or 64.
        bits: u8,
    },
    /// A character.
    Char,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// Perhaps a value.
    Option(Box<Shape>),
    /// Any number of values.
    List(Box<Shape>),
    /// Any number of keys with values.
    Map(Box<Shape>, Box<Shape>),
    /// A fixed number of values without names: a tuple, an array, a tuple struct.
    Tuple(Vec<Shape>),
    /// Named fields.
    Struct {
        /// The type's name: for people, never compared.
        name: String,
        /// The fields in order.
        fields: Vec<Field>,
    },
    /// One of several variants.
    Enum {
        /// The type's name: for people, never compared.
        name: String,
        /// The variants in order of their numbers.
        variants: Vec<Variant>,
    },
    /// A shape that this one is part of.
    Recursive {
        /// The type's name: for people, never compared.
        name: String,
        /// How many shapes further out it stands; 1 is the one that holds this.
        up: usize,
    },
    /// Bytes that only the type itself can read: they are the same as long as this name is.
    Opaque {
        /// What the program calls the form.
        name: String,
    },
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Other names it is read by (`#[serde(alias)]`).
    pub aliases: Vec<String>,
    /// Whether it may be missing: it is an `Option` or has `#[serde(default)]`.
    pub optional: bool,
    /// Its shape.
    pub shape: Shape,
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Other names it is read by (`#[serde(alias)]`).
    pub aliases: Vec<String>,
    /// What it holds: `Unit`, `Tuple` or `Struct`; a single unnamed value stands for itself.
    pub shape: Shape,
}

impl Shape {
    /// The shape of a type whose bytes only itself can read: nothing is known of them but that they stay
    /// the same as long as `name` does. The last resort of [`StateSchema`](super::StateSchema).
    pub fn opaque(name: impl Into<String>) -> Self {
        Shape::Opaque { name: name.into() }
    }

    /// The shape of `(first, second)`: of a key with its value.
    pub fn pair(first: Shape, second: Shape) -> Self {
        Shape::Tuple(vec![first, second])
    }

    /// The two shapes of a [`pair`](Shape::pair).
    pub fn as_pair(&self) -> Option<(&Shape, &Shape)> {
        match self {
            Shape::Tuple(items) => match items.as_slice() {
                [first, second] => Some((first, second)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The shapes directly inside this one.
    pub(super) fn inner(&self) -> Box<dyn Iterator<Item = &Shape> + '_> {
        match self {
            Shape::Option(item) | Shape::List(item) => Box::new(std::iter::once(&**item)),
            Shape::Map(key, value) => Box::new([&**key, &**value].into_iter()),
            Shape::Tuple(items) => Box::new(items.iter()),
            Shape::Struct { fields, .. } => Box::new(fields.iter().map(|f| &f.shape)),
            Shape::Enum { variants, .. } => Box::new(variants.iter().map(|v| &v.shape)),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Whether a part of it is opaque.
    pub(crate) fn has_opaque(&self) -> bool {
        matches!(self, Shape::Opaque { .. }) || self.inner().any(Shape::has_opaque)
    }
}

/// Whether two things are called the same, by their names or by other names they are read by.
pub(super) fn same_name(a: (&str, &[String]), b: (&str, &[String])) -> bool {
    let known = |name: &str| b.0 == name || b.1.iter().any(|other| other == name);
    known(a.0) || a.1.iter().any(|name| known(name))
}

/// A shape where it stands: with the shapes that it is part of, innermost first. Never a recursive one: a
/// step into such a shape arrives at the one meant.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) shape: &'p Shape,
    outer: Option<&'p Place<'p>>,
    /// Number of steps from the outermost, through recursive ones too.
    depth: usize,
}

/// Deepest nesting of values that is read or checked.
pub(super) const MAX_DEPTH: usize = 256;

impl<'p> Place<'p> {
    /// The outermost.
    pub(super) fn root(shape: &'p Shape) -> Result<Self> {
        if let Shape::Recursive { .. } = shape {
            return Err(malformed("it is recursive without being part of anything"));
        }
        Ok(Place { shape, outer: None, depth: 0 })
    }

    /// One further in: `shape` is part of this one.
    pub(super) fn enter(&'p self, shape: &'p Shape) -> Result<Place<'p>> {
        let depth = self.wrapped()?.depth;
        let Shape::Recursive { up, .. } = shape else {
            return Ok(Place { shape, outer: Some(self), depth });
        };
        let mut at = self;
        for _ in 1..(*up).max(1) {
            at = at.outer.ok_or_else(|| malformed("it is recursive beyond its outermost shape"))?;
        }
        Ok(Place { depth, ..*at })
    }

    /// Whether there is no entering any further.
    pub(super) fn is_deepest(&self) -> bool {
        self.depth + 1 >= MAX_DEPTH
    }

    /// The same, but a step deeper: the value is read as something around it.
    pub(super) fn wrapped(self) -> Result<Self> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            return Err(Error::external(format!(
                "values are nested deeper than {MAX_DEPTH}; state cannot be read or checked by its shape \
                 that deep"
            )));
        }
        Ok(Place { depth, ..self })
    }
}

/// A shape that was read from somewhere cannot be meant.
pub(super) fn malformed(why: &str) -> Error {
    Error::external(format!("the shape of a stored type is damaged: {why}"))
}

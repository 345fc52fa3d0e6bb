//! The shape of a type, as serde sees it: everything that its bytes depend on, and nothing else.

use serde::{Deserialize, Serialize};

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// `()` or a unit struct.
    Unit,
    /// A truth value.
    Bool,
    /// An integer of so many bits.
    Int {
        /// 8 to 128.
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
        /// The type's name.
        name: String,
        /// The fields in order.
        fields: Vec<Field>,
    },
    /// One of several variants.
    Enum {
        /// The type's name.
        name: String,
        /// The variants in order of their numbers.
        variants: Vec<Variant>,
    },
    /// A type that contains itself, by name.
    Recursive(String),
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// What it holds: `Unit`, `Tuple` or `Struct`; a single unnamed value stands for itself.
    pub shape: Shape,
}

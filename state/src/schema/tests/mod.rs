//! Schemas are tested on the types that people keep in state, and on what becomes of those over the years.

mod damage;
mod evolution;
mod forms;
mod recorded;

use super::*;
use crate::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

fn shape<T: DeserializeOwned + 'static>() -> Shape {
    Shape::of::<T>().unwrap()
}

fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).unwrap();
    bytes
}

/// What holds for every value of every type: its shape admits it, tells its length, and reads it.
fn holds<T: Serialize + DeserializeOwned + 'static + PartialEq + Debug>(value: &T) {
    let shape = shape::<T>();
    assert_eq!(compatible(&shape, &shape), Compatibility::Same, "{shape}");
    shape.admits(value).unwrap();
    let mut bytes = bytes(value);
    let len = bytes.len();
    bytes.extend([7; 3]);
    assert_eq!(encoded_len(&bytes, &shape).unwrap(), len, "{shape}");
    let (back, taken) = decode_as::<T>(&bytes, &shape).unwrap();
    assert_eq!((&back, taken), (value, len), "{shape}");
}

//! State at rest, behind the files: values by the shape they were written in, and what is made of them.
//!
//! The bytes are a shape in JSON, as a manifest has it, a line end, and what was written in that shape. All kinds of state
//! are restored from them, whatever was written: what a program asks for need not be what there is.

use super::{Decoder, nothing_to_mend};
use millstream_model::{Result, Text};
use millstream_runtime::exchange::net::received;
use millstream_state::schema::{Schema, Shape, decode_as, encoded_len};
use millstream_state::snapshot::Assignment;
use millstream_state::{
    Declared, Entries, Items, ListState, MapState, Part, Ttl, ValueState, codec,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A value that was written as something else.
pub(super) const STORED_VALUE: Decoder = Decoder {
    name: "stored-value",
    samples: stored_values,
    takes: |bytes| split(bytes).is_some_and(|(shape, bytes)| is_read(&shape, bytes)),
    mend: nothing_to_mend,
};

/// The entries of a part.
pub(super) const ENTRIES: Decoder = Decoder {
    name: "entries",
    samples: entries,
    takes: |bytes| split(bytes).is_some_and(|(shape, bytes)| is_restored(&shape, bytes)),
    mend: nothing_to_mend,
};

/// Processing time.
const NOW: i64 = 1_600_000_000_000;

/// What a barrier overtook.
pub(super) const CHANNEL_STATE: Decoder = Decoder {
    name: "channel-state",
    samples: || received::channel_state_samples().expect("a sample is short"),
    takes: |bytes| {
        let taken =
            ASSIGNMENTS.map(|assignment| received::channel_state(bytes, &assignment).is_ok());
        taken.contains(&true)
    },
    mend: nothing_to_mend,
};

/// The same subtask as before, one that is asked for more, one of fewer.
const ASSIGNMENTS: [Assignment; 3] =
    [assignment(0, 1, 1), assignment(1, 2, 1), assignment(0, 2, 3)];

const fn assignment(subtask: usize, parallelism: usize, n_writers: usize) -> Assignment {
    Assignment { subtask, parallelism, max_parallelism: 128, writer: 0, n_writers }
}

/// A type with something of everything that a shape can say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Old {
    number: u16,
    ratio: f32,
    sign: char,
    name: String,
    gone: Option<Vec<(i8, bool)>>,
    places: BTreeMap<String, u64>,
    kind: Kind,
    nothing: Vec<()>,
}

/// What it has become.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct New {
    number: Option<u64>,
    ratio: f64,
    sign: char,
    #[serde(alias = "name")]
    text: Text,
    #[serde(default)]
    added: Vec<u32>,
    places: BTreeMap<String, u128>,
    kind: Kind,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    None,
    One(u32),
    Some {
        first: Box<Option<Kind>>,
        bytes: Vec<u8>,
    },
}

fn old() -> Old {
    let first = Box::new(Some(Kind::One(7)));
    Old {
        number: 7,
        ratio: 0.5,
        sign: 'ä',
        name: "a name of more than twenty-two bytes".into(),
        gone: Some(vec![(-1, true), (1, false)]),
        places: BTreeMap::from([("here".into(), 1), ("there".into(), u64::MAX)]),
        kind: Kind::Some { first, bytes: vec![1, 2, 3] },
        nothing: vec![(); 3],
    }
}

fn split(bytes: &[u8]) -> Option<(Shape, &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&bytes[..at]).ok()?, &bytes[at + 1..]))
}

fn joined<T: Serialize>(shape: &Shape, values: &[T]) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(shape).expect("a shape is JSON");
    bytes.push(b'\n');
    values.iter().for_each(|value| codec::encode(value, &mut bytes).expect("a sample is short"));
    bytes
}

/// Whether it can be read as any of these, to its end.
fn is_read(shape: &Shape, bytes: &[u8]) -> bool {
    fn one<T: DeserializeOwned + 'static>(shape: &Shape, bytes: &[u8]) -> bool {
        let by_name = decode_as::<T>(bytes, shape).is_ok_and(|(_, taken)| taken == bytes.len());
        let read = Schema::<T>::recorded().reader(shape, 0).and_then(|reader| reader.read(bytes));
        by_name | read.is_ok_and(|(_, taken)| taken == bytes.len())
    }
    let taken = [
        one::<Old>(shape, bytes),
        one::<New>(shape, bytes),
        one::<Vec<(u64, Kind)>>(shape, bytes),
        one::<(Text, [i64; 2], Option<Box<Kind>>)>(shape, bytes),
        one::<BTreeMap<u32, Vec<()>>>(shape, bytes),
    ];
    // What the shape alone says of the length must not be more than there is.
    if let Ok(n) = encoded_len(bytes, shape) {
        assert!(n <= bytes.len(), "a value is longer than its bytes");
    }
    taken.contains(&true)
}

/// An empty state of this kind.
fn table(state: impl Declared<Text>) -> Box<dyn Part> {
    state.table(Arc::new(|| NOW))
}

/// Some of each kind of state.
fn parts() -> Vec<Box<dyn Part>> {
    const LIFE: Ttl = Ttl::after(Duration::from_secs(1));
    vec![
        Box::new(Items::<(u64, Kind)>::split()),
        Box::new(Items::<Vec<()>>::union()),
        table(ValueState::<New>::new("value")),
        table(ListState::<Option<u64>>::new("list")),
        table(ListState::<()>::new("ticks")),
        table(MapState::<Text, Kind>::new("map")),
        table(MapState::<(), ()>::new("nothing")),
        table(ListState::<u64>::new("expiring").ttl(LIFE)),
        table(MapState::<u32, New>::new("expiring").ttl(LIFE)),
    ]
}

/// Whether some state takes them all.
fn is_restored(shape: &Shape, bytes: &[u8]) -> bool {
    let mut is_taken = false;
    for assignment in &ASSIGNMENTS {
        for part in &mut parts() {
            let entries = Entries { bytes, assignment, shape, version: 0, first: 0 };
            is_taken |= part.restore(&entries).is_ok();
        }
    }
    is_taken
}

fn stored_values() -> Vec<Vec<u8>> {
    let shape = |shape: Result<Shape>| shape.expect("serde describes it");
    vec![
        joined(&shape(Shape::of::<Old>()), &[old()]),
        joined(&shape(Shape::of::<Vec<(u16, Kind)>>()), &[vec![(7u16, Kind::One(1))]]),
        joined(&shape(Shape::of::<(String, [i8; 2], Kind)>()), &[("a", [1i8, -1], Kind::None)]),
    ]
}

fn entries() -> Vec<Vec<u8>> {
    // The key and what expires stand where the states themselves put them.
    let of = |part: usize| parts()[part].shape().expect("serde describes it");
    let key = Text::from("key");
    let pair = |shape: Shape| match shape {
        Shape::Tuple(parts) => parts,
        other => panic!("{other} is not the shape of a key and a value"),
    };
    let written_as_old =
        Shape::Tuple(vec![pair(of(2))[0].clone(), Shape::of::<Old>().expect("serde describes it")]);
    let list = vec![Some(1u64), None];
    let map = vec![(Text::from("a"), Kind::One(1)), (key.clone(), Kind::None)];
    // A map as it was written before there were chunks.
    let of_pairs = pair(pair(of(5))[1].clone())[1].clone();
    let whole = Shape::Tuple(vec![pair(of(2))[0].clone(), of_pairs]);
    vec![
        joined(&of(0), &[(1u64, Kind::One(7)), (2, Kind::None)]),
        joined(&written_as_old, &[(&key, old())]),
        joined(&of(3), &[(&key, &list), (&Text::from("other key"), &list)]),
        // The only chunk of a map: its number, and no head.
        joined(&of(5), &[((&key, 0u32), (None::<u8>, &map))]),
        // A list whose elements expire: a time before each.
        joined(&of(7), &[(&key, vec![(NOW + 1, 7u64), (NOW - 1, 8)])]),
        joined(&whole, &[(&key, &map)]),
    ]
}

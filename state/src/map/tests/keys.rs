//! Maps whose keys have another type after a restore.

use super::*;
use serde::{Deserialize, Serialize};

/// The release before.
mod before {
    use super::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub(super) struct Place {
        pub(super) number: u32,
    }
}

/// A place may have a name now: it is written otherwise, so it has another hash, and may lie in another chunk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Place {
    #[serde(default)]
    name: Option<String>,
    number: u32,
}

const BEFORE: MapState<before::Place, u32> = MapState::new("map");
const NOW: MapState<Place, u32> = MapState::new("map");

#[test]
fn values_are_found_under_keys_that_have_migrated() {
    const N: u32 = 2000;
    let set: StateSet<u16> = states![BEFORE];
    let mut states = empty(set);
    for number in 0..N {
        of!(states, BEFORE, &1u16).insert(before::Place { number }, number);
    }
    let mut file = Written::default();
    freeze(&mut states, SnapshotKind::Checkpoint);
    write_all(&mut states, &mut file);

    let set: StateSet<u16> = states![NOW];
    let mut restored = empty(set);
    fill(&mut restored, &file, &shape(&mut states), (0, 1));
    let place = |number| Place { name: None, number };
    let mut map = of!(restored, NOW, &1u16);
    assert_eq!(map.len(), N as usize);
    for number in 0..N {
        assert_eq!(map.get(&place(number)), Some(&number));
        assert_eq!(map.insert(place(number), number + 1), Some(number));
    }
    assert_eq!(map.iter().count(), N as usize);
    for number in 0..N {
        assert_eq!(map.remove(&place(number)), Some(number + 1));
    }
    assert!(map.is_empty());
}

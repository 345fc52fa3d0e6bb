//! What a type may become, and what not: each case is written as one type and read as another.

use super::*;
use serde::Deserialize;

/// Values of `Old` are read as values of `New`.
fn becomes<Old, New>(old: Old, new: New, how: Compatibility)
where
    Old: Serialize + DeserializeOwned + 'static,
    New: Serialize + DeserializeOwned + 'static + PartialEq + Debug,
{
    let written = shape::<Old>();
    assert_eq!(compatible(&written, &shape::<New>()), how, "{written}\n{}", shape::<New>());
    let bytes = bytes(&old);
    assert_eq!(decode_as::<New>(&bytes, &written).unwrap(), (new, bytes.len()));
    if how == Compatibility::Same {
        codec::decode_all::<New>(&bytes).unwrap();
    }
}

/// `Old` cannot become `New`; both shapes are shown.
fn cannot_become<Old: DeserializeOwned + 'static, New: DeserializeOwned + 'static>(reason: &str) {
    let written = shape::<Old>();
    let Compatibility::Refused(why) = compatible(&written, &shape::<New>()) else {
        panic!("{written} became {}", shape::<New>())
    };
    assert!(why.contains(reason), "{why}");
    let refusal = Schema::<New>::recorded().reader(&written, 0).err().unwrap().to_string();
    for part in [&why, &written.to_string(), &shape::<New>().to_string()] {
        assert!(refusal.contains(part), "{refusal}");
    }
}

/// Defines types of the same name in modules of their own: one type over the years.
macro_rules! years {
    ($($year:ident { $($item:item)* })*) => {
        $(mod $year {
            use serde::{Deserialize, Serialize};
            $(#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)] $item)*
        })*
    };
}

years! {
    first {
        pub(super) struct Order { pub(super) id: u32, pub(super) name: String, pub(super) tags: Vec<u8> }
        pub(super) enum Event { Open, Paid(u8), Sent { at: u32 }, Gone(String) }
        pub(super) struct List { pub(super) value: u8, pub(super) next: Option<Box<List>> }
    }
    reordered {
        pub(super) struct Order { pub(super) tags: Vec<u8>, pub(super) id: u32, pub(super) name: String }
        pub(super) enum Event { Sent { at: u32 }, Gone(String), Open, Paid(u8) }
        pub(super) struct List { pub(super) next: Option<Box<List>>, pub(super) value: u8 }
    }
    removed {
        pub(super) struct Order { pub(super) tags: Vec<u8> }
        pub(super) enum Event { Open, Sent { at: u32 } }
    }
    other {
        pub(super) enum Event { Open, #[serde(other)] Other }
    }
    added {
        pub(super) struct Order {
            pub(super) id: u32,
            #[serde(default)] pub(super) count: u64,
            pub(super) name: String,
            pub(super) note: Option<String>,
            pub(super) tags: Vec<u8>,
        }
        pub(super) enum Event { Open, Paid(u8), Sent { at: u32 }, Gone(String), Back }
        pub(super) struct List { pub(super) value: u8, pub(super) next: Option<Box<List>>, #[serde(default)] pub(super) n: u8 }
    }
    demanding {
        pub(super) struct Order { pub(super) id: u32, pub(super) name: String, pub(super) tags: Vec<u8>, pub(super) must: u8 }
        pub(super) enum Event { Open, Paid(u8), Sent { at: u32, must: u8 }, Gone(String) }
    }
    renamed {
        pub(super) struct Bestellung {
            #[serde(alias = "id")] pub(super) nummer: u64,
            #[serde(alias = "name")] pub(super) titel: Option<String>,
            pub(super) tags: Vec<u16>,
        }
        pub(super) enum Event { Open, Paid(u64), #[serde(alias = "Sent")] Shipped { at: i64 }, Gone(Option<String>) }
    }
    renamed_for_good {
        pub(super) struct Order { pub(super) nummer: u64, pub(super) titel: Option<String>, pub(super) tags: Vec<u16> }
    }
    narrowed {
        pub(super) struct Order { pub(super) id: u16, pub(super) name: String, pub(super) tags: Vec<u8> }
        pub(super) struct List { pub(super) value: bool, pub(super) next: Option<Box<List>> }
    }
}

fn order() -> first::Order {
    first::Order { id: 7, name: "seven".into(), tags: vec![1, 2] }
}

use Compatibility::{Migrates, Same};

#[test]
fn fields_may_move_go_and_come() {
    let (name, tags) = ("seven".to_string(), vec![1, 2]);
    becomes(order(), order(), Same);
    becomes(order(), reordered::Order { tags: tags.clone(), id: 7, name: name.clone() }, Migrates);
    becomes(order(), removed::Order { tags: tags.clone() }, Migrates);
    becomes(
        order(),
        added::Order { id: 7, count: 0, name: name.clone(), note: None, tags },
        Migrates,
    );
    let bestellung = renamed::Bestellung { nummer: 7, titel: Some(name.clone()), tags: vec![1, 2] };
    becomes(order(), bestellung.clone(), Migrates);
    // The new name is known to have been there under the old one.
    let order = renamed_for_good::Order { nummer: 7, titel: Some(name), tags: vec![1, 2] };
    becomes(bestellung, order, Same);
    cannot_become::<first::Order, renamed_for_good::Order>("field `nummer` is new");
}

#[test]
fn a_field_that_nothing_stands_in_for_is_named() {
    cannot_become::<first::Order, demanding::Order>("field `must` is new");
    cannot_become::<first::Event, demanding::Event>("at `.Sent`, field `must` is new");
    let written = shape::<first::Order>();
    let unread = decode_as::<demanding::Order>(&bytes(&order()), &written).unwrap_err();
    assert!(unread.to_string().contains("field `must` is new"), "{unread}");
}

#[test]
fn variants_may_move_go_and_come() {
    use first::Event::*;
    becomes(Open, reordered::Event::Open, Migrates);
    becomes(Paid(3), reordered::Event::Paid(3), Migrates);
    becomes(Sent { at: 4 }, reordered::Event::Sent { at: 4 }, Migrates);
    becomes(Gone("a".into()), reordered::Event::Gone("a".into()), Migrates);
    // Behind the others, a variant moves none of their numbers.
    becomes(Sent { at: 4 }, added::Event::Sent { at: 4 }, Same);
    becomes(Sent { at: 4 }, renamed::Event::Shipped { at: 4 }, Migrates);
    becomes(Paid(4), renamed::Event::Paid(4), Migrates);
    becomes(Gone("a".into()), renamed::Event::Gone(Some("a".into())), Migrates);
}

#[test]
fn a_removed_variant_is_an_error_only_if_it_is_met() {
    use first::Event::*;
    becomes(Sent { at: 4 }, removed::Event::Sent { at: 4 }, Migrates);
    let written = shape::<first::Event>();
    let met = decode_as::<removed::Event>(&bytes(&Paid(1)), &written).unwrap_err().to_string();
    assert!(met.contains("unknown variant `Paid`"), "{met}");
    // `#[serde(other)]` takes those that are not there, with all they held.
    let events = vec![Gone("long".into()), Open, Sent { at: 1 }];
    let others = vec![other::Event::Other, other::Event::Open, other::Event::Other];
    becomes(events, others, Migrates);
}

#[test]
fn types_that_contain_themselves_may_change_too() {
    let list = first::List { value: 1, next: Some(Box::new(first::List { value: 2, next: None })) };
    let inner = reordered::List { next: None, value: 2 };
    becomes(list.clone(), reordered::List { next: Some(Box::new(inner)), value: 1 }, Migrates);
    let inner = added::List { value: 2, next: None, n: 0 };
    becomes(list, added::List { value: 1, next: Some(Box::new(inner)), n: 0 }, Migrates);
    cannot_become::<first::List, narrowed::List>("at `.value`");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(i64);

#[test]
fn numbers_may_grow_and_never_shrink() {
    becomes(200u8, 200u64, Migrates);
    becomes(200u8, 200i16, Migrates);
    becomes(-5i32, -5i64, Migrates);
    becomes(-5i64, -5i128, Migrates);
    becomes(u64::MAX, i128::from(u64::MAX), Migrates);
    becomes(1.5f32, 1.5f64, Migrates);
    becomes(-5i64, Wrapped(-5), Same);
    becomes(Wrapped(-5), -5i64, Same);
    becomes(-5i32, Wrapped(-5), Migrates);
    becomes(3u8, Some(3u8), Migrates);
    becomes(3u8, Some(Some(3u64)), Migrates);
    becomes(vec![(1u8, 2i8)], vec![(1u32, Some(2i8))], Migrates);
    cannot_become::<u64, u32>("`u64` was written, `u32` is wanted");
    cannot_become::<u64, i64>("`u64` was written");
    cannot_become::<i8, u64>("`i8` was written");
    cannot_become::<f64, f32>("`f64` was written");
    cannot_become::<f64, i64>("`f64` was written");
    cannot_become::<Option<u8>, u8>("`Option<u8>` was written");
    cannot_become::<(u8, u8), (u8, u8, u8)>("2 values without names");
    cannot_become::<Vec<u8>, String>("`Vec<u8>` was written");
    cannot_become::<first::Order, narrowed::Order>("at `.id`");
    // What is refused beforehand is not lost either if nobody asks beforehand.
    let lost = decode_as::<u8>(&bytes(&300u16), &shape::<u16>()).unwrap_err().to_string();
    assert!(lost.contains("300 is no u8"), "{lost}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Money {
    cents: i64,
}

#[test]
fn a_migration_function_reads_what_shapes_cannot() {
    const MONEY: Schema<Money> = Schema::recorded().version(2).migrate(|old| match old.version() {
        0 => Ok(Money { cents: old.read::<i64>()? * 100 }),
        1 => Ok(Money { cents: 1 + old.read::<Money>()?.cents }),
        _ => Ok(Money { cents: -1 }),
    });
    let read = |shape: &Shape, version, bytes: &[u8]| {
        MONEY.reader(shape, version).unwrap().read(bytes).unwrap()
    };
    let money = bytes(&Money { cents: 5 });
    assert_eq!(read(&shape::<u32>(), 0, &bytes(&7u32)), (Money { cents: 700 }, 4));
    // Of another version, the function decides though the shape is the same.
    assert_eq!(read(&shape::<Money>(), 1, &money), (Money { cents: 6 }, 8));
    assert_eq!(read(&shape::<Money>(), 2, &money), (Money { cents: 5 }, 8));
    // It need not read; what follows is found all the same.
    assert_eq!(read(&shape::<String>(), 9, &bytes(&"abc")), (Money { cents: -1 }, 11));
    assert!(Schema::<Money>::recorded().reader(&shape::<u32>(), 0).is_err());
}

#[test]
fn opaque_bytes_are_read_as_long_as_nothing_changes() {
    let entry = |value: Shape, form: &str| Shape::pair(value, Shape::opaque(form));
    let same = compatible(&entry(Shape::Text, "a"), &entry(Shape::Text, "a"));
    assert_eq!(same, Same);
    for changed in [entry(shape::<Option<String>>(), "a"), entry(Shape::Text, "b")] {
        let verdict = compatible(&entry(Shape::Text, "a"), &changed);
        assert!(matches!(verdict, Compatibility::Refused(_)), "{verdict:?}");
    }
}

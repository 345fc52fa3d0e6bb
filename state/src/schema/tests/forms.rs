//! Values of any content hold, for a family of types that nest in each other.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
    Pair(Box<Json>, u8),
    Named { key: char, value: Option<Box<Json>> },
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-1e300..1e300).prop_map(Json::Number),
        ".*".prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::List),
            prop::collection::btree_map("[a-z]*", inner, 0..4).prop_map(Json::Object),
            (boxed.clone(), any::<u8>()).prop_map(|(json, n)| Json::Pair(json, n)),
            (any::<char>(), prop::option::of(boxed))
                .prop_map(|(key, value)| Json::Named { key, value }),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_holds(value in json()) {
        holds(&value);
    }

    #[test]
    fn any_plain_values_hold(
        ints in any::<(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128)>(),
        rest in any::<(char, bool, Option<String>, Vec<(u8, Option<char>)>, [i16; 5])>(),
    ) {
        holds(&ints);
        holds(&rest);
    }

    #[test]
    fn any_integers_may_grow(n in any::<u16>(), m in any::<i32>()) {
        let bytes = bytes(&(n, m));
        let written = shape::<(u16, i32)>();
        let (wide, taken) = decode_as::<(i64, i128)>(&bytes, &written).unwrap();
        prop_assert_eq!((wide, taken), ((n.into(), m.into()), 6));
    }
}

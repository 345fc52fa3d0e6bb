//! Bytes and shapes come from files: whatever they say, reading them ends, with an error at worst.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Expr {
    Unit,
    Number(i64),
    Text(String, char),
    Call { name: String, arguments: Vec<Expr>, units: Vec<()> },
    Map(HashMap<u8, Option<Box<Expr>>>),
}

fn reads<T: DeserializeOwned + 'static>(bytes: &[u8], written: &Shape) -> bool {
    let skipped = encoded_len(bytes, written);
    let read = decode_as::<T>(bytes, written);
    if let Ok((_, taken)) = &read {
        assert_eq!(*taken, skipped.expect("what can be read can be skipped"));
    }
    read.is_ok()
}

#[test]
fn lengths_are_not_believed() {
    let huge = u64::MAX.to_le_bytes();
    let large = (1u64 << 40).to_le_bytes();
    for length in [huge, large] {
        assert!(!reads::<String>(&length, &shape::<String>()));
        assert!(!reads::<Vec<u64>>(&length, &shape::<Vec<u64>>()));
        assert!(!reads::<Vec<()>>(&length, &shape::<Vec<()>>()));
        assert!(!reads::<HashMap<(), ()>>(&length, &shape::<HashMap<(), ()>>()));
    }
    assert!(reads::<Vec<()>>(&9u64.to_le_bytes(), &shape::<Vec<()>>()));
    let text = bytes(&"ab");
    assert!(!reads::<String>(&text[..text.len() - 1], &shape::<String>()));
}

#[test]
fn tags_and_texts_are_checked() {
    assert!(!reads::<bool>(&[2], &Shape::Bool));
    assert!(!reads::<Option<u8>>(&[2, 0], &shape::<Option<u8>>()));
    assert!(!reads::<Expr>(&[9, 0, 0, 0], &shape::<Expr>()));
    assert!(decode_as::<String>(&[1, 0, 0, 0, 0, 0, 0, 0, 255], &Shape::Text).is_err());
    for bad in [&[0xC3][..], &[0xFF, 0, 0, 0], &[0xC3, b'a'], &[]] {
        assert!(!reads::<char>(bad, &Shape::Char), "{bad:?}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

#[test]
fn nesting_ends() {
    let chain = shape::<Chain>();
    assert!(reads::<Chain>(&[&[1; 200][..], &[0]].concat(), &chain));
    let deep = decode_as::<Chain>(&[1; 100_000], &chain).unwrap_err().to_string();
    assert!(deep.contains("nested deeper than"), "{deep}");
    assert!(encoded_len(&[1; 100_000], &chain).is_err());
    // A number may become an option, and that one again: but not without end.
    let endless = compatible(&Shape::Bool, &chain);
    assert!(matches!(endless, Compatibility::Refused(_)), "{endless:?}");
    assert!(decode_as::<Chain>(&[1], &Shape::Bool).is_err());
}

#[test]
fn deep_values_can_be_kept_if_not_changed() {
    let mut value = Chain(None);
    for _ in 0..400 {
        value = Chain(Some(Box::new(value)));
    }
    shape::<Chain>().admits(&value).unwrap();
}

#[derive(Serialize, Deserialize)]
struct Level<T> {
    inner: T,
}

#[test]
fn every_shape_that_is_recorded_can_be_read_from_a_manifest() {
    type Five<T> = Level<Level<Level<Level<Level<T>>>>>;
    let deep = shape::<Five<Five<Five<Five<Five<Level<Level<u8>>>>>>>>();
    let part = serde_json::to_string(&[[[[[[[[[&deep]]]]]]]]]).unwrap();
    let [[[[[[[[[back]]]]]]]]] =
        serde_json::from_str::<[[[[[[[[[Shape; 1]; 1]; 1]; 1]; 1]; 1]; 1]; 1]; 1]>(&part).unwrap();
    assert_eq!(back, deep);
    let deeper = Shape::of::<Five<Five<Five<Five<Five<Level<Level<Level<u8>>>>>>>>>();
    assert!(deeper.unwrap_err().to_string().contains("nested too deep"));
}

#[test]
fn shapes_that_cannot_be_meant_are_refused() {
    let up = |up| Shape::Recursive { name: "Self".into(), up };
    let endless = Shape::Tuple(vec![up(1), up(1)]);
    let beyond = Shape::Option(Box::new(up(2)));
    let odd = Shape::Int { bits: 7, signed: false };
    for shape in [up(1), up(0), endless, beyond, odd, Shape::Float { bits: 16 }] {
        assert!(encoded_len(&[1; 64], &shape).is_err(), "{shape}");
        assert!(decode_as::<(u8, u8)>(&[1; 64], &shape).is_err(), "{shape}");
        assert!(decode_as::<Chain>(&[1; 64], &shape).is_err(), "{shape}");
        let verdict = compatible(&shape, &super::shape::<String>());
        assert!(matches!(verdict, Compatibility::Refused(_)), "{shape}: {verdict:?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let expr = shape::<Expr>();
        reads::<Expr>(&bytes, &expr);
        reads::<(Expr, Option<Expr>)>(&bytes, &Shape::pair(expr.clone(), expr.clone()));
        reads::<(String, Vec<char>)>(&bytes, &shape::<(String, Vec<char>)>());
        reads::<HashMap<u8, i128>>(&bytes, &shape::<HashMap<u8, u16>>());
        decode_as::<String>(&bytes, &expr).unwrap_err();
    }

    /// Mostly small numbers: what variants, lengths and tags are made of.
    #[test]
    fn likely_bytes_never_panic(
        bytes in prop::collection::vec(prop_oneof![5 => Just(0u8), 2 => 0u8..6, 1 => any::<u8>()], 0..200),
    ) {
        reads::<Expr>(&bytes, &shape::<Expr>());
        reads::<Vec<Chain>>(&bytes, &shape::<Vec<Chain>>());
    }
}

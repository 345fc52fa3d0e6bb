//! Which types are recorded, as what, and which are refused.

use super::*;
use millstream_model::Text;
use serde::{Deserialize, Deserializer, Serializer};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroI8, NonZeroU32, NonZeroU128};
use std::ops::{Bound, Range};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

#[test]
fn std_types_and_text_hold() {
    holds(&());
    holds(&true);
    holds(&(-1i8, -2i16, -3i32, -4i64, i128::MIN, -5isize));
    holds(&(1u8, 2u16, 3u32, 4u64, u128::MAX, 5usize));
    holds(&(1.5f32, -2.5f64));
    for c in ['a', 'ß', '√', '🦀'] {
        holds(&c);
    }
    holds(&String::from("straße"));
    holds(&Text::from("a text that is longer than what fits in place"));
    holds(&vec![1u16, 2, 3]);
    holds(&VecDeque::from([1u8, 2]));
    holds(&SmallVec::<[u32; 2]>::from_vec(vec![1, 2, 3]));
    holds(&HashMap::from([(1u8, "one".to_string()), (2, "two".into())]));
    holds(&BTreeMap::from([("a".to_string(), vec![Some(1u8), None])]));
    holds(&HashSet::from([1i64, -1]));
    holds(&BTreeSet::<(u8, char)>::new());
    holds(&Some(Some(1u8)));
    holds(&None::<NonZeroU32>);
    holds(&(1u8, 2u8, 3u8, 4u8, 5u8, 6u8, 7u8, 8u8, 9u8, 10u8, 11u8, "twelve".to_string()));
    holds(&[[1u16; 3]; 2]);
    holds(&[0u8; 0]);
    holds(&Duration::new(5, 7));
    holds(&(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 1)));
    holds(&IpAddr::from([127, 0, 0, 1]));
    holds(&IpAddr::from(Ipv6Addr::LOCALHOST));
    holds(&SocketAddr::from(([10, 0, 0, 1], 80)));
    holds(&Box::new(1u8));
    holds(&Box::<[u8]>::from([1, 2]));
    holds(&Cow::<'static, str>::Owned("cow".into()));
    holds(&(NonZeroU32::MIN, NonZeroI8::MIN, NonZeroU128::MAX));
    holds(&Ok::<u8, String>(1));
    holds(&Err::<u8, String>("no".into()));
    holds(&Range { start: 1u8, end: 2 });
    holds(&(Bound::Included(1u8), Bound::<String>::Unbounded));
    holds(&PathBuf::from("a/b"));
    holds(&std::marker::PhantomData::<String>);
    holds(&std::num::Wrapping(1u8));
    holds(&std::cmp::Reverse(1u8));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Id(u64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: Id,
    #[serde(default)]
    count: NonZeroU32Or,
    note: Option<String>,
    #[serde(alias = "price", alias = "amount")]
    cost: f64,
    state: State,
}

/// Refuses 0, and says so only after it was read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct NonZeroU32Or(NonZeroU32);

impl Default for NonZeroU32Or {
    fn default() -> Self {
        NonZeroU32Or(NonZeroU32::MIN)
    }
}

impl TryFrom<u32> for NonZeroU32Or {
    type Error = String;
    fn try_from(n: u32) -> Result<Self, String> {
        NonZeroU32::new(n).map(NonZeroU32Or).ok_or_else(|| "zero".into())
    }
}

impl From<NonZeroU32Or> for u32 {
    fn from(n: NonZeroU32Or) -> u32 {
        n.0.get()
    }
}

impl Clone for NonZeroU32Or {
    fn clone(&self) -> Self {
        NonZeroU32Or(self.0)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum State {
    #[serde(alias = "Fresh")]
    New,
    Paid(u64, Marker),
    Sent {
        at: u64,
        by: Option<Box<Order>>,
    },
    Lost(Id),
}

#[test]
fn a_shape_reads_like_its_source() {
    let order = shape::<Order>();
    assert_eq!(
        order.to_string(),
        "\
struct Order {
    id: u64,
    #[serde(default)]
    count: u32,
    note: Option<String>,
    #[serde(alias = \"cost\", alias = \"price\")]
    amount: f64,
    state: enum State {
        #[serde(alias = \"New\")]
        Fresh,
        Paid(u64, ()),
        Sent {
            at: u64,
            by: Option<Order>,
        },
        Lost(u64),
    },
}"
    );
    let order =
        |state| Order { id: Id(1), count: NonZeroU32Or::default(), note: None, cost: 2.0, state };
    holds(&order(State::New));
    holds(&order(State::Paid(2, Marker)));
    holds(&order(State::Lost(Id(3))));
    let inner = order(State::Sent { at: 3, by: None });
    holds(&order(State::Sent { at: 3, by: Some(Box::new(inner)) }));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Expr {
    Add(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Call { name: String, arguments: Vec<Expr> },
    Number(i64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree(BTreeMap<char, Tree>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Nest {
    nests: Vec<Nest>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Statement {
    expression: Holder,
    first: Option<Box<Block>>,
    otherwise: Option<Box<Block>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    statements: Vec<Statement>,
    last: Option<Holder>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Holder {
    Back(Box<Statement>),
    Cell(NonZeroU32),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair<T> {
    left: T,
    right: T,
}

#[test]
fn types_that_contain_themselves_hold() {
    let number = |n| Box::new(Expr::Number(n));
    holds(&Expr::Add(number(1), Box::new(Expr::Not(number(2)))));
    holds(&Expr::Call { name: "f".into(), arguments: vec![*number(3)] });
    holds(&Tree(BTreeMap::from([('a', Tree(BTreeMap::from([('b', Tree(BTreeMap::new()))])))])));
    holds(&Nest {
        nests: vec![Nest { nests: vec![] }, Nest { nests: vec![Nest { nests: vec![] }] }],
    });
    let plain =
        || Statement { expression: Holder::Cell(NonZeroU32::MIN), first: None, otherwise: None };
    let block = Block { statements: vec![plain()], last: Some(Holder::Back(Box::new(plain()))) };
    holds(&Statement {
        expression: Holder::Back(Box::new(plain())),
        first: Some(Box::new(block)),
        otherwise: None,
    });
}

#[test]
fn a_type_of_the_same_name_inside_is_not_taken_for_the_type_itself() {
    let inner = || Pair { left: 1u8, right: 2 };
    holds(&Pair { left: inner(), right: inner() });
    let Shape::Struct { fields, .. } = shape::<Pair<Pair<u8>>>() else { panic!("it is a struct") };
    assert_eq!(fields[0].shape, shape::<Pair<u8>>());
}

#[test]
fn a_value_and_its_newtype_have_one_shape() {
    assert_eq!(shape::<Id>(), shape::<u64>());
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    A(u8),
    B(String),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    A { a: u8 },
    B { b: u8 },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum Beside {
    A(u8),
    B(String),
}

#[derive(Serialize, Deserialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    rest: Id2,
}

#[derive(Serialize, Deserialize)]
struct Id2 {
    id: u64,
}

#[derive(Serialize, Deserialize)]
struct Deep {
    values: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Endless {
    next: Box<Endless>,
}

struct Iban(String);

impl<'de> Deserialize<'de> for Iban {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        if text.len() < 15 || !text.starts_with("DE") {
            return Err(serde::de::Error::custom("not an IBAN"));
        }
        Ok(Iban(text))
    }
}

impl Serialize for Iban {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl StateSchema for Iban {
    fn shape() -> Shape {
        Shape::Text
    }
}

#[test]
fn what_cannot_be_recorded_is_refused_with_the_place_and_the_remedy() {
    fn refusal<T: DeserializeOwned + 'static>() -> String {
        Shape::of::<T>().unwrap_err().to_string()
    }
    for (refusal, place) in [
        (refusal::<Untagged>(), "it asks what comes next"),
        (refusal::<Tagged>(), "it asks what comes next"),
        (refusal::<Beside>(), "Beside.value is read in a way that depends on other values"),
        (refusal::<Flat>(), "asks for names"),
        (refusal::<Deep>(), "Deep.values[] asks what comes next"),
        (refusal::<Endless>(), "Endless contains itself without an end"),
        (refusal::<(u8, Iban)>(), "no sample value pleased it.1 (not an IBAN)"),
    ] {
        assert!(refusal.contains(place), "{refusal}");
        assert!(refusal.contains("implement `StateSchema`"), "{refusal}");
    }
    assert!(refusal::<Deep>().contains("::Deep`"));

    let schema = Schema::<Iban>::declared();
    let iban = Iban("DE02120300000000202051".into());
    schema.shape().unwrap().admits(&iban).unwrap();
    let written = Shape::Text;
    let (back, _) = schema.reader(&written, 0).unwrap().read(&bytes(&iban)).unwrap();
    assert_eq!(back.0, iban.0);
}

#[derive(Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<u8>,
}

#[derive(Serialize, Deserialize)]
struct HalfSkipping {
    #[serde(skip_serializing, default)]
    a: u8,
    b: u8,
}

#[derive(Serialize, Deserialize)]
enum Ending {
    Early {
        a: u8,
        #[serde(skip_serializing, default)]
        b: u8,
    },
}

#[derive(Serialize, Deserialize)]
enum Shifted {
    A,
    #[serde(skip)]
    B,
    C,
}

#[test]
fn what_is_written_otherwise_than_read_is_refused() {
    fn refusal<T: Serialize + DeserializeOwned + 'static>(value: &T) -> String {
        shape::<T>().admits(value).unwrap_err().to_string()
    }
    shape::<Skipping>().admits(&Skipping { note: Some(1) }).unwrap();
    shape::<Shifted>().admits(&Shifted::A).unwrap();
    assert!(matches!(Shifted::B, Shifted::B));
    let ending = Ending::Early { a: 1, b: 2 };
    assert!(matches!(ending, Ending::Early { a: 1, b: 2 }));
    assert_eq!(HalfSkipping { a: 1, b: 2 }.a, 1);
    for (refusal, what) in [
        (refusal(&Skipping { note: None }), "field `note` is left out (`skip_serializing_if`)"),
        (refusal(&HalfSkipping { a: 1, b: 2 }), "field `b` is written where field `a` is read"),
        (refusal(&ending), "1 parts are written where 2 are read"),
        (refusal(&Shifted::C), "variant `C` is written as number 2"),
    ] {
        assert!(refusal.contains(what), "{refusal}");
    }
    for wrong in [Shape::Bool, Shape::Unit, Shape::Option(Box::new(Shape::Text))] {
        assert!(wrong.admits("a text").is_err());
        assert!(wrong.admits(&vec![1u8]).is_err());
        assert!(wrong.admits(&(1u8, 2u8)).is_err());
    }
    let opaque = Shape::opaque("text-1");
    opaque.admits("a text").unwrap();
    opaque.admits(&HashMap::from([(1u8, vec![Some(State::New)])])).unwrap();
}

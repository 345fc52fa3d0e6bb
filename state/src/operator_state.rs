//! Operator state that programs declare: lists of a subtask that belong to no key.
//!
//! Declared as keyed states are, as constants; lent as vectors. They are few, so they are copied as a whole
//! when a snapshot is taken: what grows with the data belongs into keyed state.

use crate::items::Items;
use crate::part::{Part, Visitor};
use crate::schema::Schema;
use crate::snapshot::PartKind;
use millstream_model::{Data, Error, Result};
use std::any::Any;
use std::cell::{RefCell, RefMut};

/// A list that every subtask has one of.
///
/// ```
/// use millstream_state::{OperatorListState, OperatorStateSet, operator_states};
///
/// const BUFFER: OperatorListState<String> = OperatorListState::split("buffer");
/// const STATES: OperatorStateSet = operator_states![BUFFER];
/// ```
pub struct OperatorListState<T> {
    name: &'static str,
    kind: PartKind,
    schema: Schema<T>,
}

impl<T: Data> OperatorListState<T> {
    /// Describes the state called `name`, unique within its operator and stable across releases of the
    /// program. When the parallelism changes its elements are dealt out to all subtasks, in no particular
    /// order.
    pub const fn split(name: &'static str) -> Self {
        OperatorListState { name, kind: PartKind::Split, schema: Schema::recorded() }
    }

    /// As [`split`](Self::split), but after a restore every subtask has the elements of all subtasks, whether or
    /// not the parallelism has changed.
    pub const fn union(name: &'static str) -> Self {
        OperatorListState { name, kind: PartKind::Union, schema: Schema::recorded() }
    }

    /// Says how its elements are described, and how those of earlier versions are read.
    #[must_use]
    pub const fn schema(mut self, schema: Schema<T>) -> Self {
        self.schema = schema;
        self
    }
}

/// A list of whatever type.
pub trait AnyItems: Any + Send + Part {}

impl<T: Data> AnyItems for Items<T> {}

/// The declaration of a list of whatever type.
pub trait DeclaredItems {
    /// The state's name.
    fn name(&self) -> &'static str;

    /// An empty list for it.
    fn items(&self) -> Box<dyn AnyItems>;
}

impl<T: Data> DeclaredItems for OperatorListState<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn items(&self) -> Box<dyn AnyItems> {
        Box::new(Items::described(self.kind, self.schema))
    }
}

/// The operator states of one function. Made by `operator_states!`.
#[derive(Clone, Copy)]
pub struct OperatorStateSet(&'static [&'static dyn DeclaredItems]);

impl OperatorStateSet {
    /// No state.
    pub const NONE: OperatorStateSet = OperatorStateSet(&[]);

    /// The set of these declarations.
    pub const fn new(declarations: &'static [&'static dyn DeclaredItems]) -> Self {
        OperatorStateSet(declarations)
    }
}

/// Lists the operator states a function uses: `const STATES: OperatorStateSet = operator_states![BUFFER];`
#[macro_export]
macro_rules! operator_states {
    ($($state:expr),* $(,)?) => {
        $crate::OperatorStateSet::new(&[$(&$state),*])
    };
}

/// The operator states of one operator subtask.
pub struct OperatorStates {
    slots: Vec<(&'static str, RefCell<Box<dyn AnyItems>>)>,
}

impl OperatorStates {
    /// Empty lists for a set of declared states.
    ///
    /// # Errors
    /// If two states bear the same name.
    pub fn new(set: OperatorStateSet) -> Result<Self> {
        let mut slots: Vec<(&'static str, RefCell<Box<dyn AnyItems>>)> = Vec::new();
        for declared in set.0 {
            let name = declared.name();
            if slots.iter().any(|slot| slot.0 == name) {
                return Err(Error::user(format!(
                    "two states of one operator are called `{name}`: rename one"
                )));
            }
            slots.push((name, RefCell::new(declared.items())));
        }
        Ok(OperatorStates { slots })
    }

    /// The elements of a state. What is there at a barrier is in the snapshot.
    ///
    /// # Panics
    /// If the state was not declared, was declared with another type, or is being held already: mistakes in the
    /// program, which end the job with this text.
    pub fn of<T: Data>(&self, state: &OperatorListState<T>) -> RefMut<'_, Vec<T>> {
        let name = state.name;
        let Some((_, slot)) = self.slots.iter().find(|slot| slot.0 == name) else {
            panic!("state `{name}` is not declared: add it to the function's `STATES`");
        };
        let Ok(items) = slot.try_borrow_mut() else {
            panic!("state `{name}` is already held: drop the first handle before asking again");
        };
        RefMut::map(items, |items| {
            match (&mut **items as &mut dyn Any).downcast_mut::<Items<T>>() {
                Some(items) => &mut items.values,
                None => panic!(
                    "state `{name}` was declared with another type: use the declared descriptor"
                ),
            }
        })
    }

    /// Shows every state to a visitor.
    ///
    /// # Errors
    /// The visitor's.
    pub fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        for (name, items) in &mut self.slots {
            visitor.part(name, &mut **items.get_mut() as &mut dyn Part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER: OperatorListState<u32> = OperatorListState::split("buffer");
    const OTHER: OperatorListState<u32> = OperatorListState::union("other");

    #[test]
    fn states_are_lent_as_vectors() {
        let states = OperatorStates::new(operator_states![BUFFER, OTHER]).unwrap();
        states.of(&BUFFER).push(1);
        let (mut buffer, mut other) = (states.of(&BUFFER), states.of(&OTHER));
        buffer.push(2);
        other.append(&mut buffer);
        assert_eq!((&buffer[..], &other[..]), (&[][..], &[1, 2][..]));
    }

    #[test]
    fn a_name_is_given_once() {
        let error = OperatorStates::new(operator_states![BUFFER, BUFFER]).err().unwrap();
        assert!(error.to_string().contains("called `buffer`"), "{error}");
    }

    #[test]
    #[should_panic(expected = "state `other` is not declared")]
    fn an_undeclared_state_is_named() {
        OperatorStates::new(operator_states![BUFFER]).unwrap().of(&OTHER);
    }
}

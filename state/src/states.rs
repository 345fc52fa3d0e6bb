//! The keyed states of one operator subtask: its tables, lent by descriptor and key.
//!
//! Every table sits in a cell of its own, so that several states of a key can be held at once; asking
//! twice for the same one while it is held is a mistake in the program and says so.

use crate::described::{AnyTable, StateTable};
use crate::descriptor::StateSet;
use crate::handle::Descriptor;
use crate::part::{Broadcast, Part, Visitor};
use crate::ttl::Clock;
use millstream_model::{Error, Key, Result};
use std::any::Any;
use std::cell::{RefCell, RefMut};
use std::sync::Arc;

/// The tables of one operator subtask. See the module's text.
pub struct KeyedStates {
    slots: Vec<Slot>,
}

struct Slot {
    name: &'static str,
    table: RefCell<Box<dyn AnyTable>>,
}

impl KeyedStates {
    /// Brings the entries of keys with these hashes close, in every state.
    pub fn warm(&self, hashes: &[u64]) {
        for slot in &self.slots {
            slot.table.borrow().warm(hashes);
        }
    }

    /// Shows every state to a visitor.
    ///
    /// # Errors
    /// The visitor's.
    pub fn parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        for slot in &mut self.slots {
            visitor.part(slot.name, &mut **slot.table.get_mut() as &mut dyn Part)?;
        }
        Ok(())
    }

    /// Shows every state to a visitor, as states that are the same in all subtasks.
    ///
    /// # Errors
    /// The visitor's.
    pub fn broadcast_parts(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        for slot in &mut self.slots {
            visitor.part(slot.name, &mut Broadcast(&mut **slot.table.get_mut()))?;
        }
        Ok(())
    }

    /// Empty tables for a set of declared states; `clock` is that by which values expire.
    ///
    /// # Errors
    /// If two states bear the same name.
    pub fn new<K: Key>(set: StateSet<K>, clock: &Clock) -> Result<Self> {
        let mut slots: Vec<Slot> = Vec::new();
        for d in set.declarations() {
            if slots.iter().any(|s| s.name == d.name()) {
                return Err(Error::user(format!(
                    "two states of one operator are called `{}`: rename one",
                    d.name()
                )));
            }
            slots.push(Slot { name: d.name(), table: RefCell::new(d.table(Arc::clone(clock))) });
        }
        Ok(KeyedStates { slots })
    }

    /// The state that `descriptor` names, for one key.
    ///
    /// # Panics
    /// If the state was not declared, was declared with another type, or is being held already: mistakes
    /// in the program, which end the job with this text.
    #[inline]
    pub fn of<'a, K: Key, D: Descriptor>(
        &'a self,
        descriptor: &'a D,
        key: &'a K,
        hash: u64,
    ) -> D::Handle<'a, K> {
        let mut table = self.table::<D::Table<K>>(descriptor.name());
        table.fetch(hash, key);
        descriptor.handle(table, key, hash)
    }

    /// Copies of the keys that have an entry in the state that `descriptor` names, in no particular but a
    /// repeatable order.
    ///
    /// # Panics
    /// As [`of`](Self::of).
    pub fn keys<K: Key, D: Descriptor>(&self, descriptor: &D) -> Vec<K> {
        let table = self.table::<D::Table<K>>(descriptor.name());
        // What cannot be read ends the step; there is no way to say so.
        table.keys().unwrap_or_else(|e| std::panic::resume_unwind(Box::new(e)))
    }

    #[inline]
    fn table<V: 'static>(&self, name: &str) -> RefMut<'_, V> {
        let Some(slot) = self.slots.iter().find(|s| std::ptr::eq(s.name, name) || s.name == name)
        else {
            panic!("state `{name}` is not declared: add its descriptor to the function's `STATES`");
        };
        let Ok(table) = slot.table.try_borrow_mut() else {
            panic!(
                "state `{name}` is already held: drop the first handle before asking for it again"
            );
        };
        RefMut::map(table, |t| match (&mut **t as &mut dyn Any).downcast_mut::<V>() {
            Some(t) => t,
            None => {
                panic!("state `{name}` was declared with another type: use the declared descriptor")
            }
        })
    }
}

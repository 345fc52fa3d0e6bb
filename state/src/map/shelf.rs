//! What is read through a handle that must not change: kept beside the table until it may.
//!
//! Reading a map takes a shared handle and gives references that live as long as that borrow, so what comes from a store
//! meanwhile needs a place that never moves. Here it is: a tree of cells that are written once, by number, as large as what
//! was read. (A list would do if there were never many; a map of all chunks would cost more than reading one.)

use std::cell::OnceCell;

/// See the module's text.
pub(super) struct Shelf<T> {
    item: OnceCell<Option<T>>,
    further: [OnceCell<Box<Shelf<T>>>; WAYS as usize],
}

const WAYS: u32 = 8;

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Shelf { item: OnceCell::new(), further: Default::default() }
    }
}

impl<T> Shelf<T> {
    /// What is there under a number; `read` is asked the first time.
    pub(super) fn get(&self, number: u32, read: impl FnOnce() -> Option<T>) -> Option<&T> {
        let (mut shelf, mut number) = (self, number);
        while number > 0 {
            number -= 1;
            shelf = shelf.further[(number % WAYS) as usize].get_or_init(Box::default);
            number /= WAYS;
        }
        shelf.item.get_or_init(read).as_ref()
    }

    /// Takes everything off it.
    pub(super) fn clear(self, take: &mut impl FnMut(u32, T)) {
        self.clear_from(0, 1, take);
    }

    /// The same where numbers begin and go on by so much.
    fn clear_from(mut self, number: u32, step: u32, take: &mut impl FnMut(u32, T)) {
        if let Some(item) = self.item.take().flatten() {
            take(number, item);
        }
        let next = step.wrapping_mul(WAYS);
        for (way, mut further) in (1..).zip(self.further) {
            if let Some(further) = further.take() {
                further.clear_from(number + step * way, next, take);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_found_again_and_comes_off_once() {
        let shelf = Shelf::default();
        let numbers: Vec<u32> = (0..1000).chain([1 << 16, u32::MAX - 1, u32::MAX]).collect();
        for &number in &numbers {
            assert_eq!(shelf.get(number, || Some(number)), Some(&number));
            assert_eq!(shelf.get(number, || panic!("it is there")), Some(&number));
        }
        assert_eq!(shelf.get(5000, || None), None);
        assert_eq!(shelf.get(5000, || panic!("it is known not to be there")), None);
        let mut taken = Vec::new();
        shelf.clear(&mut |number, item| {
            assert_eq!(number, item);
            taken.push(item);
        });
        taken.sort();
        assert_eq!(taken, numbers);
    }
}

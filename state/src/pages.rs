//! Memory for large tables, in large pages.
//!
//! A hash table is read at random. Of one of a hundred megabytes in pages of 4 KiB nearly every access also misses the
//! processor's table of pages, and walks through it in memory, before it misses the cache; in pages of 2 MiB a few dozen
//! entries cover all of it. The system has such pages for whoever asks (`madvise`, where it does not give them anyway).
//!
//! And a table that grows leaves its old memory behind, half as large as the new: an allocator may keep it for later,
//! here it goes back to the system at once.

use allocator_api2::alloc::{AllocError, Allocator, Global};
use std::alloc::Layout;
use std::ptr::NonNull;

/// A large page.
const PAGE_BYTES: usize = 2 << 20;
/// What is smaller comes from the allocator of the program.
const LARGE_BYTES: usize = 4 * PAGE_BYTES;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pages;

fn is_large(layout: Layout) -> bool {
    cfg!(target_os = "linux") && layout.size() >= LARGE_BYTES && layout.align() <= PAGE_BYTES
}

// SAFETY: memory is either that of `Global`, which keeps the contract, or a mapping of its own: it is as large and as aligned
// as was asked for, and stays where it is until it is given back. Which of the two depends on the layout alone, which is the
// same at both ends. All copies of the allocator are the same.
#[allow(unsafe_code)]
unsafe impl Allocator for Pages {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if is_large(layout) {
            return map(layout.size().next_multiple_of(PAGE_BYTES)).ok_or(AllocError);
        }
        Global.allocate(layout)
    }

    // SAFETY: as the contract has it, memory that `allocate` gave for this layout, and that nobody uses any more.
    #[inline]
    unsafe fn deallocate(&self, at: NonNull<u8>, layout: Layout) {
        if is_large(layout) {
            unmap(at.as_ptr(), layout.size().next_multiple_of(PAGE_BYTES));
            return;
        }
        // SAFETY: it came from there, as the caller's layout tells.
        unsafe { Global.deallocate(at, layout) }
    }
}

/// Maps memory that begins with a large page.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn map(n_bytes: usize) -> Option<NonNull<[u8]>> {
    // A page more, so that one begins in it; what is before and behind goes back.
    let n_mapped = n_bytes.checked_add(PAGE_BYTES)?;
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, wherever there is room; nobody has any of it.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), n_mapped, access, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    let mapped = mapped.cast::<u8>();
    let n_before = mapped.align_offset(PAGE_BYTES);
    let at = mapped.wrapping_add(n_before);
    unmap(mapped, n_before);
    unmap(at.wrapping_add(n_bytes), n_mapped - n_before - n_bytes);
    debug_assert_eq!(at as usize % PAGE_BYTES, 0);
    // SAFETY: advice about memory that is ours; a system that does not take it is as good as before.
    let _ = unsafe { libc::madvise(at.cast(), n_bytes, libc::MADV_HUGEPAGE) };
    NonNull::new(std::ptr::slice_from_raw_parts_mut(at, n_bytes))
}

/// Gives memory back, which nobody uses any more.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn unmap(at: *mut u8, n_bytes: usize) {
    if n_bytes > 0 {
        // SAFETY: whole pages of a mapping of ours; the caller has seen to it that nobody has any of them.
        let _ = unsafe { libc::munmap(at.cast(), n_bytes) };
    }
}

#[cfg(not(target_os = "linux"))]
fn map(_: usize) -> Option<NonNull<[u8]>> {
    None
}

#[cfg(not(target_os = "linux"))]
fn unmap(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashTable;

    #[test]
    fn a_table_grows_into_large_pages_and_shrinks_out_of_them() {
        let hash = |n: &u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut table = HashTable::<u64, Pages>::new_in(Pages);
        let n = LARGE_BYTES as u64 / 4;
        for i in 0..n {
            table.insert_unique(hash(&i), i, hash);
        }
        assert!(table.capacity() * size_of::<u64>() > LARGE_BYTES);
        assert!((0..n).all(|i| table.find(hash(&i), |found| *found == i).is_some()));
        table.retain(|i| *i < 100);
        table.shrink_to_fit(hash);
        assert!((0..n).all(|i| table.find(hash(&i), |found| *found == i).is_some() == (i < 100)));
    }
}

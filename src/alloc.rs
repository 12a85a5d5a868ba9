//! An allocator that says so when there is no memory left, and that can limit the memory of one piece of work: the
//! rendering of a chat template from a stranger's file.
//!
//! A Jinja template needs only a few lines to ask for more memory than any machine has, and Rust cannot report a failed
//! allocation as an error: it aborts the process. `main.rs` installs this allocator, which exits with a sentence. A
//! program that uses the library and does not install it has no such limit.
#![allow(unsafe_code, reason = "a global allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;

/// How to need less memory: the end of every sentence about a lack of it.
pub(crate) const LESS_MEMORY: &str = "lower --parallel, --ctx or --batch, or take a smaller --kv-type or model, then run \
                                      the same command again: finished rows are safe";

/// The system's allocator, with a limit for the work inside [`limited`].
pub struct Limited;

#[derive(Clone, Copy)]
struct Limit {
    /// Bytes that may still be allocated.
    left: isize,
    /// What is said if they do not suffice.
    sentence: &'static str,
}

thread_local! {
    /// The limit of this thread's work.
    static LIMIT: Cell<Option<Limit>> = const { Cell::new(None) };
}

/// Does `work` with at most `bytes` of memory, not counting what was allocated before. If it needs more, the process
/// says `sentence` and exits with 2.
pub fn limited<T>(bytes: usize, sentence: &'static str, work: impl FnOnce() -> T) -> T {
    let left = isize::try_from(bytes).unwrap_or(isize::MAX);
    let before = LIMIT.replace(Some(Limit { left, sentence }));
    let done = work();
    LIMIT.set(before);
    done
}

/// Takes `bytes` from the limit of this thread, if there is one.
fn take(bytes: isize) {
    let Some(limit) = LIMIT.get() else { return };
    let left = limit.left.saturating_sub(bytes);
    LIMIT.set(Some(Limit { left, ..limit }));
    if left < 0 {
        LIMIT.set(None); // what follows may allocate
        let _ = writeln!(std::io::stderr(), "error: {}", limit.sentence);
        std::process::exit(2);
    }
}

/// Passes on an allocated block. If the system refused it, the process says so and exits with 1: each row that was
/// reported is on disk.
fn granted(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() {
        LIMIT.set(None);
        let _ = writeln!(std::io::stderr(), "error: out of memory: the system refused {bytes} bytes; {LESS_MEMORY}");
        std::process::exit(1);
    }
    block
}

// SAFETY: every call is passed on to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size() as isize);
        // SAFETY: the caller keeps the rules of `alloc`.
        granted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size() as isize);
        // SAFETY: the caller keeps the rules of `alloc_zeroed`.
        granted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        take(-(layout.size() as isize));
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        take((new_size as isize).saturating_sub(layout.size() as isize));
        // SAFETY: the caller keeps the rules of `realloc`.
        granted(unsafe { System.realloc(block, layout, new_size) }, new_size)
    }
}

//! How often libtorch's operations are called. Most of them start a kernel on a GPU, and what a small model's step takes
//! there is the time to start them.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::sync::{Mutex, PoisonError};

use crate::torch_ops_free;

unsafe extern "C" {
    fn torch_ops_start_counting() -> u64;
    fn torch_ops_counted_operations() -> *mut c_char;
    fn torch_ops_stop_counting(handle: u64);
}

/// One counter is installed at a time, since it counts for all threads.
static COUNTING: Mutex<()> = Mutex::new(());

/// The operations that all threads call during `work`, by their names as in `aten::mm`. Those that only call others are not
/// counted, and neither are views and allocations. Operations are slower while they are counted.
pub fn operations_of(work: impl FnOnce()) -> BTreeMap<String, u64> {
    let guard = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the handle is that of the counter, which is removed once.
    let handle = unsafe { torch_ops_start_counting() };
    work();
    unsafe { torch_ops_stop_counting(handle) };
    // SAFETY: the string was allocated by `strdup` and is freed once, here.
    let lines = unsafe {
        let raw = torch_ops_counted_operations();
        let lines = CStr::from_ptr(raw).to_string_lossy().into_owned();
        torch_ops_free(raw);
        lines
    };
    drop(guard);
    let count = |line: &str| {
        let (count, name) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    lines.lines().filter_map(count).collect()
}

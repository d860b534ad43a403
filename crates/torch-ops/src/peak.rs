//! The exact peak of the bytes that libtorch's allocators hand out, on any device.

use std::ffi::c_void;
use std::marker::PhantomData;

unsafe extern "C" {
    fn torch_ops_start_peak() -> *mut c_void;
    fn torch_ops_peak_bytes(measurement: *const c_void) -> i64;
    fn torch_ops_stop_peak(measurement: *mut c_void);
}

/// A measurement of the memory that tensors take in this thread, in the operations that it starts and in their backward
/// passes, from [`PeakMemory::start`] until it is dropped. What was allocated before counts as nothing, what is freed of it
/// as less than nothing. Without a measurement libtorch counts nothing. Measurements are nested: an inner one hides its
/// allocations from the outer one.
#[derive(Debug)]
pub struct PeakMemory {
    measurement: *mut c_void,
    // The counter is installed in this thread, and must be removed there.
    thread: PhantomData<*const ()>,
}

impl PeakMemory {
    /// Starts to count.
    pub fn start() -> Self {
        // SAFETY: the function allocates a counter, which `drop` frees once.
        Self { measurement: unsafe { torch_ops_start_peak() }, thread: PhantomData }
    }

    /// The most bytes that were in use at once so far, in addition to those in use at the start.
    pub fn bytes(&self) -> u64 {
        // SAFETY: the counter lives as long as `self`.
        u64::try_from(unsafe { torch_ops_peak_bytes(self.measurement) }).unwrap_or(0)
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        // SAFETY: the counter was allocated by `start`, in this thread.
        unsafe { torch_ops_stop_peak(self.measurement) }
    }
}

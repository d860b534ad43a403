//! Runs library code on untrusted bytes: a panic becomes an error and is not printed.
//!
//! Otherwise a decoder that divides by a size of zero would end the program without naming the file.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether this thread is running contained code.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// The message of the last contained panic.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// The result of `work`, or the message of its panic. `work` must run on this thread only.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    HOOK.call_once(|| {
        let default_hook = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            if CONTAINED.get() {
                LAST_PANIC.with_borrow_mut(|message| {
                    *message = information.payload_as_str().unwrap_or_default().to_owned()
                });
            } else {
                default_hook(information);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    result.unwrap_or_else(|_| {
        let message = LAST_PANIC.with_borrow_mut(std::mem::take);
        Err(format!("its contents are inconsistent ({message})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_thread_continues() {
        let zero = "0".parse::<u32>().unwrap();
        let reason = contained(|| Ok(1 / zero)).unwrap_err();
        assert_eq!(reason, "its contents are inconsistent (attempt to divide by zero)");
        let inner = contained(|| contained::<u32>(|| panic!("{}", "within")).or(Ok(2)));
        assert_eq!(inner.unwrap(), 2);
        assert!(contained::<u32>(|| Err("a plain reason".into())).unwrap_err() == "a plain reason");
        assert!(!CONTAINED.get());
    }
}

//! Recognises that libtorch could not allocate a tensor, which is an error of some of its operations and a panic of tch's
//! others.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::{Result, anyhow};

/// What libtorch's allocators say: that of a GPU, and that of the processor.
const MESSAGES: [&str; 2] = ["out of memory", "not enough memory: you tried to allocate"];

/// Whether an error says so.
pub(super) fn is(error: &anyhow::Error) -> bool {
    says_so(&format!("{error:#}"))
}

fn says_so(text: &str) -> bool {
    MESSAGES.iter().any(|message| text.contains(message))
}

/// The result of `work`, or an error in place of a panic that says so. Any other panic continues.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panic = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => return result,
        Err(panic) => panic,
    };
    let text = panic.downcast_ref::<String>().cloned();
    match text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())) {
        // The lines after the first are a stack trace of libtorch.
        Some(text) if says_so(&text) => Err(anyhow!("{}", text.lines().next().unwrap_or_default())),
        _ => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_about_memory_becomes_an_error_and_any_other_continues() {
        let cuda = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 2 GiB\")";
        let error = caught::<()>(|| panic!("{cuda}")).unwrap_err();
        assert!(is(&error), "{error}");
        assert!(!is(&caught::<()>(|| Err(anyhow!("a shape"))).unwrap_err()));
        assert!(is(&anyhow!("DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes.")));
        assert!(catch_unwind(|| caught::<()>(|| panic!("another"))).is_err());
        assert_eq!(caught(|| Ok(2)).unwrap(), 2);
    }
}

//! Checks of the numbers in a published configuration, for every kind of model. Errors are clauses that complete a message.

/// Maximum number of blocks; the largest LLaMA has 126.
const MAX_BLOCKS: i64 = 1024;
/// The fields that say how many there are.
const BLOCKS: [&str; 3] = ["num_hidden_layers", "depth", "depths"];

/// Checks a model's sizes, by field: values below 1 or far above any real model's are rejected, so that no
/// product of two overflows.
pub(crate) fn check_sizes(sizes: &[(&str, i64)]) -> Result<(), String> {
    for (field, value) in sizes {
        let max = if BLOCKS.contains(field) { MAX_BLOCKS } else { (1 << 28) - 1 };
        if !(1..=max).contains(value) {
            return Err(format!("`{field}` is {value}; expected a number from 1 to {max}"));
        }
    }
    Ok(())
}

/// Checks the epsilon of a model's norms.
pub(crate) fn check_epsilon(field: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    Err(format!("`{field}` is {value}; expected a number above 0 and below 1"))
}

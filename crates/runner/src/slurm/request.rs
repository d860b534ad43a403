//! What a task requests from the cluster: one GPU, and memory and time by the plan unless the user says.

use std::time::Duration;

/// A task may need this many times the memory of the finished runs, which are of other methods or sets.
pub const MEMORY_FACTOR: u64 = 2;
/// A task may take this many times as long as finished runs suggest: nodes and file systems are unequally fast.
pub const TIME_FACTOR: u32 = 2;
/// Time for what the records do not contain: starting, opening data, loading weights.
const START: Duration = Duration::from_mins(10);
/// Requested times are multiples of this.
const TIME_STEP: u128 = 10 * 60;
/// Requested memory is a multiple of this, bytes.
const MEMORY_STEP: u64 = 1 << 30;

/// `--mem` in MiB for a task of a program that needs this many bytes.
pub fn memory(need: u64) -> u64 {
    need.next_multiple_of(MEMORY_STEP) >> 20
}

/// `--time` for a task whose runs are expected to take this long.
pub fn time(expected: Duration) -> String {
    let seconds = (expected * TIME_FACTOR + START).as_millis().div_ceil(1000);
    let seconds = seconds.next_multiple_of(TIME_STEP);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = if days == 0 { String::new() } else { format!("{days}-") };
    format!("{days}{hours:02}:{minutes:02}:00")
}

/// The number of GPUs in `--gres`, as `gpu`, `gpu:2`, `gpu:h100:1,nvme:100`.
pub fn gpus(gres: &str) -> u64 {
    let gpu = |one: &str| {
        let mut parts = one.trim().split(':');
        let count = (parts.next() == Some("gpu")).then(|| parts.next_back().map_or(Ok(1), str::parse))?;
        // A model without a number: one of it.
        Some(count.unwrap_or(1))
    };
    gres.split(',').filter_map(gpu).sum()
}

/// The model of the GPU in `--gres`, as `gpu:h100:1`; `None` if it names none.
pub fn gpu_model(gres: &str) -> Option<&str> {
    gres.split(',').find_map(|one| {
        let mut parts = one.trim().split(':');
        let model = (parts.next() == Some("gpu")).then(|| parts.next()).flatten();
        model.filter(|model| model.parse::<u64>().is_err())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_requested_with_reserve_in_slurms_notation() {
        assert_eq!(time(Duration::from_secs(20)), "00:20:00");
        assert_eq!(time(Duration::from_mins(95)), "03:20:00");
        assert_eq!(time(Duration::from_hours(13)), "1-02:10:00");
        assert_eq!(memory((3 << 30) + 1), 4096);
    }

    #[test]
    fn gpus_of_generic_resources_are_counted() {
        for (gres, number) in [
            ("gpu", 1),
            ("gpu:2", 2),
            ("gpu:h100", 1),
            ("nvme:100,gpu:h100:4", 4),
            ("nvme:3", 0),
            ("gpu:0", 0),
        ] {
            assert_eq!(gpus(gres), number, "{gres}");
        }
        assert_eq!(gpu_model("nvme:100,gpu:h100:4"), Some("h100"));
        assert_eq!((gpu_model("gpu:2"), gpu_model("gpu"), gpu_model("nvme:h:1")), (None, None, None));
    }
}

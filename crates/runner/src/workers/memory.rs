//! The memory of a pool: how much is available, and how much one worker needs.

use std::path::Path;

use report::record::{RECORD_FILE, Record};

use crate::io::files::entries;
pub use crate::messages::size_in_words as in_words;
use crate::resources::process_bytes;
use crate::store::Store;
use crate::tasks::Run;

/// Memory of a worker in addition to its model: the program, libtorch and the images of a synthetic set. Measured:
/// 0.16 GB with the smallest backbone and 32 images per step.
const BASE: u64 = 400 << 20;
/// The same for a worker of a GPU, in the machine's memory: mainly CUDA's libraries and context. Not measured.
const BASE_OF_GPU_WORKER: u64 = 4 << 30;
/// Maximum number of records that are read to measure the need.
const LOOKED_AT: usize = 200;

/// The memory of the machine that one worker needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Bytes.
    pub bytes: u64,
    /// Where the number comes from.
    pub source: String,
    /// Bytes per parameter of the model that are not included, since nothing was measured.
    per_parameter: Option<u64>,
}

impl Need {
    /// The largest peak of finished runs on the same backbones and kind of device; an assumption if there are none.
    pub fn of<'a>(runs: impl Iterator<Item = &'a Run>, store: &Store, on_gpu: bool) -> Self {
        let backbones: std::collections::BTreeSet<String> = runs.map(Run::backbone_label).collect();
        let records = entries(&store.folder).into_iter().map(|folder| folder.join(RECORD_FILE));
        let peaks: Vec<u64> = records
            .filter(|path| path.is_file())
            .take(LOOKED_AT)
            .filter_map(|path| Record::read(&path).ok())
            .filter(|record| backbones.contains(&record.backbone.name))
            .filter(|record| record.provenance.device.starts_with("cpu") != on_gpu)
            .filter_map(|record| if on_gpu { record.cost.host_memory } else { record.cost.peak_memory })
            .collect();
        match peaks.iter().max() {
            Some(&bytes) => {
                let source = format!("the largest peak of {} finished runs", peaks.len());
                Self { bytes, source, per_parameter: None }
            }
            None => Self {
                bytes: if on_gpu { BASE_OF_GPU_WORKER } else { BASE },
                source: "assumed, since no run has finished yet".into(),
                // The weights on their way to the GPU; or weights, gradients and two moments.
                per_parameter: Some(if on_gpu { 4 } else { 16 }),
            },
        }
    }

    /// The need according to the plan, if nothing was measured: `planned` bytes of tensors, and the program.
    #[must_use]
    pub fn or_planned(self, planned: u64) -> Self {
        let bytes = process_bytes(planned);
        if self.per_parameter.is_none() || bytes <= BASE {
            return self;
        }
        Self { bytes, source: "as planned, since no run has finished yet".into(), ..self }
    }

    /// Bytes that should suffice for a model of this size, and why: `factor` times what was measured; before that, what is
    /// assumed for the program and the model.
    pub fn with_reserve(&self, parameters: u64, factor: u64) -> (u64, String) {
        match self.per_parameter {
            None => (self.bytes * factor, format!("{factor} times {}", self.source)),
            Some(bytes) => (self.bytes + bytes * parameters, self.source.clone()),
        }
    }
}

/// Memory that is available on this machine and in this process's control group, bytes; `None` if that cannot be read.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let number = |file: &str| -> Option<u64> {
        std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse().ok()
    };
    let group = number("memory.max").zip(number("memory.current"));
    let in_group = group.map_or(u64::MAX, |(max, current)| max.saturating_sub(current));
    Some((kilobytes * 1024).min(in_group))
}

/// All memory of this machine, or as much as this process's control group may have, bytes; `None` if that cannot be read.
pub fn installed() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse().ok()).unwrap_or(u64::MAX);
    Some((kilobytes * 1024).min(limit))
}

/// Resident memory of a process, bytes; 0 if it has ended.
pub fn resident(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Bytes from `1.5GB`, `800MB` or a plain number of bytes.
///
/// # Errors
/// When the text is none of these.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == ' ');
    let factor: f64 = match text[digits.len()..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" => 1024.0,
        "M" | "MB" => 1024.0 * 1024.0,
        "G" | "GB" => f64::from(1 << 30),
        _ => return Err(format!("`{text}` is not a size: write 800MB or 1.5GB")),
    };
    match digits.parse::<f64>() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * factor) as u64),
        _ => Err(format!("`{text}` is not a size: write 800MB or 1.5GB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_and_formatted() {
        assert_eq!(parse("1.5GB"), Ok(3 << 29));
        assert_eq!(parse("800 mb"), Ok(800 << 20));
        assert_eq!(parse("12"), Ok(12));
        assert!(parse("much").is_err() && parse("-1GB").is_err() && parse("1TB").is_err());
        assert_eq!((in_words(3 << 29), in_words(800 << 20)), ("1.5 GB".into(), "800 MB".into()));
    }
}

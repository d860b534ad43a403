//! The memory of the device that a plan is for.

use crate::messages::size_in_words;
use crate::resources::PROGRAM_BYTES;

/// What CUDA's context and libraries take of a GPU. Not measured with this program.
const CUDA_CONTEXT: u64 = 1 << 30;
/// The part of a GPU's memory that tensors can have: libtorch's allocator cannot use every gap.
const USABLE_PERCENT: u64 = 93;

/// The memory that one worker may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes; `None` if it is not known: everything is then expected to fit.
    pub bytes: Option<u64>,
    /// Whether it is a GPU's.
    pub on_gpu: bool,
    /// What it is the memory of, in words; it is followed by its size.
    pub name: String,
    /// Bytes of it that are not for tensors.
    pub reserve: u64,
}

impl DeviceMemory {
    /// That of a GPU, of which CUDA has a part.
    pub fn of_gpu(bytes: Option<u64>, name: &str) -> Self {
        let gaps = bytes.unwrap_or(0) / 100 * (100 - USABLE_PERCENT);
        Self { bytes, on_gpu: true, name: name.into(), reserve: CUDA_CONTEXT + gaps }
    }

    /// That of the processors; `limit` is what the user allows, which the pool of workers compares with the whole process.
    pub fn of_processors(limit: Option<u64>, installed: Option<u64>) -> Self {
        let (name, reserve) = match limit {
            Some(_) => ("the memory limit for all workers is", 0),
            None => ("this machine has", PROGRAM_BYTES),
        };
        Self { bytes: limit.or(installed), on_gpu: false, name: name.into(), reserve }
    }

    /// Whether a group fits that needs `bytes` for its tensors.
    pub(super) fn holds(&self, need: u64) -> bool {
        self.bytes.is_none_or(|bytes| need.saturating_add(self.reserve) <= bytes)
    }

    /// Its size, and what it is.
    pub fn in_words(&self) -> String {
        let Some(bytes) = self.bytes else { return format!("{} unknown memory", self.name) };
        let size = format!("{} {}", self.name, size_in_words(bytes));
        if self.reserve == 0 {
            return size;
        }
        format!("{size}, {} of it for tensors", size_in_words(bytes.saturating_sub(self.reserve)))
    }
}

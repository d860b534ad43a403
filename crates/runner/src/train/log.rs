//! The training log, line by line: `steps.jsonl` and `epochs.jsonl` in the run's folder.
//!
//! While a run is in progress, its logs are next to its checkpoint, which stores how much of them belongs to its state;
//! whatever was written after that is cut off when the run resumes. So a run that was interrupted ends with the same
//! bytes as one that was not.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use report::record::{EPOCHS_FILE, STEPS_FILE};
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::io::files::{create_folder, write_atomically, writing};

/// A line per step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct StepLine {
    /// From 1.
    pub step: u64,
    /// Mean loss of the batch, before the step.
    pub loss: f64,
    /// Norm of the gradient of all trained tensors.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}

/// A line per epoch.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct EpochLine {
    /// From 1.
    pub epoch: u64,
    /// Mean loss of the epoch's examples.
    pub train_loss: f64,
    /// What was evaluated after it.
    #[serde(flatten)]
    pub metrics: EpochMetrics,
}

/// What was evaluated after an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Accuracy in [0, 1] on the split that the stage evaluates on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// Accuracies of a SAN model's parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_accuracies: Option<PartAccuracies>,
}

/// Accuracy in [0, 1] of one trained SAN model with only some of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PartAccuracies {
    /// Gammas scale features only.
    pub nt: f64,
    /// Gammas scale the next weights only.
    pub sp: f64,
    /// The trained head on the frozen backbone.
    pub head: f64,
}

/// The part of the logs that belongs to a state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    steps: Part,
    epochs: Part,
}

/// Length and checksum of the start of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    bytes: u64,
    blake3: String,
}

impl Default for Part {
    fn default() -> Self {
        Self { bytes: 0, blake3: blake3::hash(&[]).to_hex().to_string() }
    }
}

/// The logs of a run in progress.
#[derive(Debug)]
pub struct RunLog {
    steps: Log,
    epochs: Log,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
    /// Lines that are not written yet.
    pending: Vec<u8>,
}

impl RunLog {
    /// The logs next to the checkpoint `stem`, empty until [`RunLog::truncate_to`].
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(stem: PathBuf) -> Result<Self, RunError> {
        create_folder(stem.parent().unwrap_or(Path::new(".")))?;
        Ok(Self {
            steps: Log::open(stem.with_extension(STEPS_FILE))?,
            epochs: Log::open(stem.with_extension(EPOCHS_FILE))?,
        })
    }

    /// Cuts off what does not belong to the state.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn truncate_to(&mut self, logged: &Logged) -> Result<(), RunError> {
        self.steps.truncate_to(&logged.steps)?;
        self.epochs.truncate_to(&logged.epochs)
    }

    /// Adds a step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn step(&mut self, line: &StepLine) -> Result<(), RunError> {
        self.steps.add(line)
    }

    /// Adds an epoch.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn epoch(&mut self, line: &EpochLine) -> Result<(), RunError> {
        self.epochs.add(line)
    }

    /// Flushes everything to disk; returns how much there is.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn flush(&mut self) -> Result<Logged, RunError> {
        Ok(Logged { steps: self.steps.flush()?, epochs: self.epochs.flush()? })
    }

    /// Copies the logs into `folder`; those next to the checkpoint are removed with it.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn publish(mut self, folder: &Path) -> Result<(), RunError> {
        self.flush()?;
        for (log, name) in [(&self.steps, STEPS_FILE), (&self.epochs, EPOCHS_FILE)] {
            write_atomically(&folder.join(name), &writing(&log.path, std::fs::read(&log.path))?)?;
        }
        Ok(())
    }

    /// Removes the logs next to the checkpoint `stem`, if they exist.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn remove(stem: &Path) -> Result<(), RunError> {
        for path in [STEPS_FILE, EPOCHS_FILE].map(|name| stem.with_extension(name)) {
            if path.exists() {
                writing(&path, std::fs::remove_file(&path))?;
            }
        }
        Ok(())
    }
}

impl Log {
    fn open(path: PathBuf) -> Result<Self, RunError> {
        let options = OpenOptions::new().append(true).create(true).open(&path);
        let file = writing(&path, options)?;
        Ok(Self { path, file, hasher: blake3::Hasher::new(), bytes: 0, pending: Vec::new() })
    }

    fn truncate_to(&mut self, part: &Part) -> Result<(), RunError> {
        writing(&self.path, self.file.set_len(part.bytes))?;
        self.hasher = blake3::Hasher::new();
        self.hasher.update(&writing(&self.path, std::fs::read(&self.path))?);
        self.bytes = part.bytes;
        Ok(())
    }

    fn add(&mut self, line: &impl Serialize) -> Result<(), RunError> {
        writing(&self.path, serde_json::to_writer(&mut self.pending, line).map_err(Into::into))?;
        self.pending.push(b'\n');
        if self.pending.len() > 1 << 16 { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), RunError> {
        let written = self.file.write_all(&self.pending);
        if written.is_err() {
            // A partial line, on a full disk: the next attempt starts after the last complete write.
            let _ = self.file.set_len(self.bytes);
        }
        writing(&self.path, written)?;
        self.hasher.update(&self.pending);
        self.bytes += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<Part, RunError> {
        self.write()?;
        writing(&self.path, self.file.sync_data())?;
        Ok(Part { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}

impl Logged {
    /// Whether the logs next to the checkpoint `stem` start with it.
    pub fn matches_files_at(&self, stem: &Path) -> bool {
        let holds = |name: &str, part: &Part| {
            let bytes = std::fs::read(stem.with_extension(name)).unwrap_or_default();
            let length = usize::try_from(part.bytes).unwrap_or(usize::MAX);
            bytes.get(..length).is_some_and(|held| blake3::hash(held).to_hex().as_str() == part.blake3)
        };
        holds(STEPS_FILE, &self.steps) && holds(EPOCHS_FILE, &self.epochs)
    }
}

//! The state of a group of runs in the middle of training, from which they resume bit for bit.
//!
//! Batches, augmentation and all other random choices are functions of (seed, epoch, step), so a state consists of the
//! trained tensors, the optimiser's moments, whatever else the training keeps of the tensors (their average, the best
//! of them), and the progress. Its file is stored under `.checkpoints/`,
//! apart from the scratch folders, and contains the names of its runs and the checksum of its own contents: one that is
//! truncated, altered, or belongs to other runs is set aside, with a warning, and the runs start again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use san_core::Trainables;
use san_core::io::safetensors::{TensorReader, for_bytes, read_header, write_tensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::RunError;
use crate::io::files::{create_folder, writing};
use crate::messages::message;
use crate::train::log::{Logged, RunLog};

/// Folder of checkpoints in a store.
pub const FOLDER: &str = ".checkpoints";
const KEY: &str = "san_checkpoint";

/// The progress of a training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub steps: u64,
    /// Epochs done.
    pub epochs: u64,
    /// Time spent in steps.
    pub training: Duration,
    /// Time spent waiting for data.
    pub data_wait: Duration,
    /// The progress of each run.
    pub runs: Vec<RunProgress>,
}

/// The progress of one run of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    /// Mean loss of each completed epoch.
    pub losses: Vec<f64>,
    /// Sum of the losses of the current epoch, over its samples.
    pub sum: f64,
    /// The best test accuracy of any epoch, if it is evaluated.
    pub test_selected: Option<f64>,
    /// The evaluation on held-out examples with the lowest loss so far, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Number of steps before the one whose loss or gradient was not finite; the run has not changed since.
    pub diverged_after: Option<u64>,
    /// The part of the logs that belongs to this state.
    pub logged: Logged,
}

/// An evaluation on held-out examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps before it.
    pub step: u64,
    /// The loss.
    pub loss: f64,
}

/// Where the checkpoint of a group of runs is stored, and how often it is written.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    path: PathBuf,
    runs: Vec<String>,
    every: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    runs: Vec<String>,
    /// The trained tensors in the order of the buffer, which is not the same in every version of the program.
    trained: Vec<String>,
    progress: Progress,
    contents: String,
}

impl CheckpointFile {
    /// The checkpoint of the group named `name` of the runs named `runs` in the store `folder`.
    pub fn new(folder: &Path, name: &str, runs: &[String], every: Duration) -> Self {
        Self { path: path(folder, name), runs: runs.to_vec(), every }
    }

    /// The checkpoint of one run.
    pub fn of_run(folder: &Path, run: &str, every: Duration) -> Self {
        Self::new(folder, run, &[run.to_owned()], every)
    }

    /// The logs that belong to the checkpoint, one for each run.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn logs(&self) -> Result<Vec<RunLog>, RunError> {
        self.log_stems().into_iter().map(RunLog::create).collect()
    }

    /// `<name>`, or `<name>-<number>` for each run of several.
    fn log_stems(&self) -> Vec<PathBuf> {
        let stem = self.path.with_extension("");
        if self.runs.len() == 1 {
            return vec![stem];
        }
        let numbered = |number| {
            let mut name = stem.file_name().unwrap_or_default().to_owned();
            name.push(format!("-{number}"));
            stem.with_file_name(name)
        };
        (0..self.runs.len()).map(numbered).collect()
    }

    /// The interval between two checkpoints.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Writes the state, completely or not at all; each tensor is `[K, P]`.
    ///
    /// # Errors
    /// When the folder cannot be written; an older checkpoint stays as it was.
    pub fn save(
        &self,
        progress: &Progress,
        trainables: &Trainables,
        tensors: &[(&str, &Tensor)],
    ) -> Result<()> {
        create_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        let header = Header {
            runs: self.runs.clone(),
            trained: names(trainables),
            progress: progress.clone(),
            contents: checksum(progress, tensors.iter().map(|(_, tensor)| *tensor))?,
        };
        let metadata = (KEY, serde_json::to_string(&header)?);
        write_tensors(&self.path, tensors.iter().copied(), metadata, Kind::Float)?;
        Ok(())
    }

    /// The saved progress and the tensors of these names, each of the size of the trained tensors; `None` if there is no
    /// state, or it is damaged or of other trained tensors.
    ///
    /// # Errors
    /// When a damaged file cannot be removed.
    pub fn restore(
        &self,
        trainables: &Trainables,
        wanted: &[&str],
    ) -> Result<Option<(Progress, Vec<Tensor>)>> {
        if !self.path.is_file() {
            return Ok(None);
        }
        match self.read(trainables, wanted) {
            Ok(state) => Ok(Some(state)),
            Err(reason) => {
                let starts = if self.runs.len() == 1 { "the run starts" } else { "its runs start" };
                message(format_args!("san: {}: {reason}; {starts} again", self.path.display()));
                self.remove()?;
                Ok(None)
            }
        }
    }

    fn read(&self, trainables: &Trainables, wanted: &[&str]) -> Result<(Progress, Vec<Tensor>), String> {
        let mut file = TensorReader::open(&self.path).map_err(|error| error.to_string())?;
        let text = file.metadata(KEY).ok_or("it is not a checkpoint")?;
        let header: Header = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if header.runs != self.runs {
            return Err("it belongs to another run".into());
        }
        if header.trained != names(trainables) {
            return Err("it has other trained tensors".into());
        }
        let mut take = |name: &&str| {
            let tensor = file.tensor(name).map_err(|error| error.to_string())?;
            tensor.ok_or(format!("it has no `{name}`"))
        };
        let tensors = wanted.iter().map(&mut take).collect::<Result<Vec<_>, _>>()?;
        if tensors.iter().any(|tensor| tensor.size() != trainables.values().size()) {
            return Err("its tensors have another size".into());
        }
        let found = checksum(&header.progress, tensors.iter()).map_err(|error| error.to_string())?;
        if found != header.contents {
            return Err("its contents do not match its checksum".into());
        }
        if header.progress.runs.len() != self.runs.len() {
            return Err("it has the progress of another number of runs".into());
        }
        let mut logs = header.progress.runs.iter().zip(self.log_stems());
        if !logs.all(|(run, stem)| run.logged.matches_files_at(&stem)) {
            return Err("the logs next to it do not belong to it".into());
        }
        Ok((header.progress, tensors))
    }

    /// Removes the checkpoint, if it exists.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn remove(&self) -> Result<(), RunError> {
        if self.path.exists() {
            writing(&self.path, std::fs::remove_file(&self.path))?;
        }
        self.log_stems().iter().try_for_each(|stem| RunLog::remove(stem))
    }
}

fn names(trainables: &Trainables) -> Vec<String> {
    trainables.iter().map(|(spec, _)| spec.name.clone()).collect()
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(FOLDER).join(format!("{name}.safetensors"))
}

/// Whether there is a checkpoint named `name` in the store `folder`.
pub fn exists(folder: &Path, name: &str) -> bool {
    path(folder, name).is_file()
}

/// The runs of the checkpoint named `name` in the store `folder`; `None` if there is none, or it is damaged.
pub fn runs_of(folder: &Path, name: &str) -> Option<Vec<String>> {
    let path = path(folder, name);
    let mut file = File::open(&path).ok()?;
    let length = file.metadata().ok()?.len();
    let metadata = read_header(&mut file, length, &path).ok()?;
    let header: Header = serde_json::from_str(metadata.metadata().as_ref()?.get(KEY)?).ok()?;
    Some(header.runs)
}

/// The name of the group that a file in the folder of checkpoints belongs to, and whether the file is only partly
/// written.
pub fn group_of(file: &str) -> (&str, bool) {
    let partial = file.strip_prefix('.');
    let name = partial.unwrap_or(file).split('.').next().unwrap_or_default();
    (name.split('-').next().unwrap_or_default(), partial.is_some())
}

/// blake3 of the progress and of the tensors' elements as they are stored.
fn checksum<'a>(progress: &Progress, mut tensors: impl Iterator<Item = &'a Tensor>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(progress)?);
    tensors.try_for_each(|tensor| {
        for_bytes(tensor, Kind::Float, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use san_core::Weights;
    use san_core::spec::init::Init;
    use san_core::spec::trainable::{Group, TrainableSpec};
    use san_core::train::adamw::{AdamW, AdamWSettings};
    use tch::{Device, no_grad};

    use super::*;

    /// Eight numbers, and steps whose gradients are a function of the step number.
    struct Training(Trainables, AdamW);

    impl Training {
        fn new() -> Self {
            Self::of(&["x"])
        }

        fn of(names: &[&str]) -> Self {
            let shape = vec![8 / names.len() as i64];
            let spec = |name: &&str| TrainableSpec {
                name: (*name).into(),
                shape: shape.clone(),
                init: Init::Ones,
                group: Group::Method,
            };
            let specs = names.iter().map(spec).collect();
            let trainables = Trainables::allocate(specs, &[0], &Weights::default(), Device::Cpu).unwrap();
            let optimiser = AdamW::new(&trainables, AdamWSettings::default()).unwrap();
            Self(trainables, optimiser)
        }

        fn steps(&mut self, steps: std::ops::Range<u64>) -> Vec<u8> {
            for step in steps {
                let gradient = (Tensor::arange(8, (Kind::Float, Device::Cpu)) + step as f64).sin();
                let rates = Tensor::from_slice(&[1e-2_f32]).view([1, 1]);
                self.1.step(&self.0, &gradient.view([1, 8]), &rates, None).unwrap();
            }
            let values: Vec<f32> = Vec::try_from(self.0.values().flatten(0, -1)).unwrap();
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit_and_its_values_alone_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::of_run(folder.path(), "a", Duration::ZERO);
        let whole = Training::new().steps(0..9);
        let mut broken = Training::new();
        broken.steps(0..4);
        let progress = Progress { steps: 4, runs: vec![RunProgress::default()], ..Progress::default() };
        file.logs().unwrap();
        let (first, second) = broken.1.moments();
        let state = [("first", first), ("second", second), ("values", broken.0.values())];
        file.save(&progress, &broken.0, &state).unwrap();

        let wanted = ["first", "second", "values"];
        let (found, tensors) = file.restore(&broken.0, &wanted).unwrap().unwrap();
        assert_eq!(found, progress);
        let mut restored = Training::new();
        no_grad(|| restored.0.values().shallow_clone().copy_(&tensors[2]));
        restored.1.restore(&tensors[0], &tensors[1], 4).unwrap();
        assert_eq!(restored.steps(4..9), whole);

        let mut cold = Training::new();
        no_grad(|| cold.0.values().shallow_clone().copy_(&tensors[2]));
        assert_ne!(cold.steps(4..9), whole, "the values alone are no state");
    }

    #[test]
    fn a_state_whose_tensors_are_in_another_order_is_not_restored() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::of_run(folder.path(), "a", Duration::ZERO);
        let saved = Training::of(&["x", "y"]);
        let progress = Progress { runs: vec![RunProgress::default()], ..Progress::default() };
        file.logs().unwrap();
        file.save(&progress, &saved.0, &[("values", saved.0.values())]).unwrap();
        let other = Training::of(&["y", "x"]);
        assert!(file.restore(&other.0, &["values"]).unwrap().is_none());
    }
}

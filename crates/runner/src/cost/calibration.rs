//! What was measured on a device, kept in a file of the results folder, and how it corrects the built-in model.
//!
//! A measurement has the work that it was of, so that it serves other amounts of data: what it says is by which factor the
//! built-in model is wrong for a method on a model.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cost::device::{Device, Family};
use crate::cost::work::Work;
use crate::error::RunError;
use crate::io::files::write_json;
use crate::tasks::{Precision, Run};

/// Name of the file in the results folder.
const FILE: &str = ".calibration.json";
/// The most bytes that are read of it.
const MOST_BYTES: u64 = 64 << 20;
/// Commit of the code that this program was built from.
const COMMIT: &str = env!("SAN_COMMIT");

/// What the cost of a step depends on, apart from the amount of data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Name of the task.
    pub task: String,
    /// Name of the model, without `@random`.
    pub backbone: String,
    /// Name of the method.
    pub method: String,
    /// Its options, as JSON.
    pub options: String,
    /// The precision.
    pub precision: Precision,
    /// Examples of a step for each run.
    pub batch_size: usize,
    /// Number of runs that are trained together.
    pub group: usize,
    /// Whether images are augmented.
    pub augmented: bool,
}

impl Kind {
    /// That of a group of `group` runs like this one.
    ///
    /// # Errors
    /// When the run has no task.
    pub fn of(run: &Run, group: usize) -> Result<Self> {
        let protocol = &run.protocol;
        Ok(Self {
            task: protocol.task().map_err(anyhow::Error::msg)?.name().to_owned(),
            backbone: run.backbone.trim_end_matches("@random").to_owned(),
            method: run.method.clone(),
            options: serde_json::to_string(&run.options)?,
            precision: protocol.precision,
            batch_size: protocol.batch_size,
            group,
            augmented: protocol.classification.as_ref().is_some_and(|task| task.augmentation.is_some()),
        })
    }

    /// What its model takes.
    pub fn family(&self) -> Family {
        if self.task == "classification" { Family::Images } else { Family::Texts }
    }
}

/// Work and the time that it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timed {
    /// The work.
    pub work: Work,
    /// Seconds.
    pub seconds: f64,
}

/// What was measured of one kind of group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The kind.
    pub kind: Kind,
    /// One step of all its runs.
    pub step: Timed,
    /// An evaluation of all its runs.
    pub evaluation: Timed,
    /// Features before the first step; no work if there are none.
    pub preparation: Timed,
    /// Seconds to open the data of a group and to allocate what it trains.
    pub start_seconds: f64,
}

/// Measurements on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDevice {
    device: String,
    threads: u32,
    commit: String,
    measurements: Vec<Measurement>,
}

/// All measurements of a results folder.
#[derive(Debug)]
pub struct CalibrationFile {
    path: PathBuf,
    all: Vec<OnDevice>,
}

impl CalibrationFile {
    /// Reads the file of a results folder; there are no measurements if it is not there.
    ///
    /// # Errors
    /// When it is not such a file.
    pub fn open(results: &Path) -> Result<Self> {
        let path = results.join(FILE);
        if !path.exists() {
            return Ok(Self { path, all: Vec::new() });
        }
        let bytes = san_core::io::files::read(&path, MOST_BYTES)?;
        let wrong = |error: serde_json::Error| RunError::DamagedCalibration {
            path: path.clone(),
            reason: error.to_string(),
        };
        let all = serde_json::from_slice(&bytes).map_err(wrong)?;
        Ok(Self { path, all })
    }

    /// The measurements of this program on a device.
    pub fn of(&self, device: &Device) -> Calibration {
        let on_device = self.all.iter().find(|one| one.is_of(device));
        Calibration { measurements: on_device.map_or_else(Vec::new, |one| one.measurements.clone()) }
    }

    /// Adds measurements on a device and writes the file; those of the same kind are replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, device: &Device, measurements: Vec<Measurement>) -> Result<()> {
        if !self.all.iter().any(|one| one.is_of(device)) {
            self.all.push(OnDevice {
                device: device.name.clone(),
                threads: device.threads,
                commit: COMMIT.into(),
                measurements: Vec::new(),
            });
        }
        for one in self.all.iter_mut().filter(|one| one.is_of(device)) {
            one.measurements.retain(|old| measurements.iter().all(|new| new.kind != old.kind));
            one.measurements.extend(measurements.iter().cloned());
        }
        Ok(write_json(&self.path, &self.all)?)
    }
}

impl OnDevice {
    fn is_of(&self, device: &Device) -> bool {
        (self.device.as_str(), self.threads, self.commit.as_str())
            == (device.name.as_str(), device.threads, COMMIT)
    }
}

/// How near a measurement is to what is estimated by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// Of this kind.
    Same,
    /// Of another method, batch size or number of runs on the same model in the same precision.
    SameModel,
    /// Of another model of the same task in the same precision.
    SameTask,
    /// None: the built-in model alone.
    BuiltIn,
}

/// Measurements of this program on one device.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    measurements: Vec<Measurement>,
}

/// By which factors the built-in model is corrected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// Of a step.
    pub step: f64,
    /// Of an evaluation.
    pub evaluation: f64,
    /// Of features before the first step.
    pub preparation: f64,
    /// Seconds of a group's beginning, if they were measured.
    pub start_seconds: Option<f64>,
    /// What they are from.
    pub nearness: Nearness,
}

impl Calibration {
    /// The correction for a kind, from the nearest measurements: their geometric mean if there are several.
    pub fn correction(&self, kind: &Kind, device: &Device) -> Correction {
        let task = |other: &Kind| other.task == kind.task && other.precision == kind.precision;
        let model = |other: &Kind| task(other) && other.backbone == kind.backbone;
        let all = |is_near: &dyn Fn(&Kind) -> bool| -> Vec<&Measurement> {
            self.measurements.iter().filter(|one| is_near(&one.kind)).collect()
        };
        let by_nearness = [
            (Nearness::Same, all(&|other| other == kind)),
            (Nearness::SameModel, all(&|other| model(other))),
            (Nearness::SameTask, all(&|other| task(other))),
        ];
        let Some((nearness, near)) = by_nearness.into_iter().find(|(_, near)| !near.is_empty()) else {
            let none = Correction {
                step: 1.0,
                evaluation: 1.0,
                preparation: 1.0,
                start_seconds: None,
                nearness: Nearness::BuiltIn,
            };
            return none;
        };
        let factor = |timed: &dyn Fn(&Measurement) -> Timed| {
            let factors = near.iter().filter_map(|one| {
                let Timed { work, seconds } = timed(one);
                let model = device.seconds(work, one.kind.precision, one.kind.family());
                (model > 0.0 && seconds > 0.0).then(|| (seconds / model).ln())
            });
            let factors: Vec<f64> = factors.collect();
            (factors.iter().sum::<f64>() / factors.len().max(1) as f64).exp()
        };
        Correction {
            step: factor(&|one| one.step),
            evaluation: factor(&|one| one.evaluation),
            preparation: factor(&|one| one.preparation),
            start_seconds: Some(near.iter().map(|one| one.start_seconds).sum::<f64>() / near.len() as f64),
            nearness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(backbone: &str, method: &str) -> Kind {
        Kind {
            task: "classification".into(),
            backbone: backbone.into(),
            method: method.into(),
            options: "{}".into(),
            precision: Precision::F32,
            batch_size: 32,
            group: 1,
            augmented: false,
        }
    }

    fn measured(kind: Kind, seconds: f64) -> Measurement {
        let timed = |seconds| Timed { work: Work { macs: 5e8, ..Work::default() }, seconds };
        Measurement {
            kind,
            step: timed(seconds),
            evaluation: timed(2.0 * seconds),
            preparation: Timed::default(),
            start_seconds: 0.25,
        }
    }

    #[test]
    fn the_nearest_measurement_corrects_the_built_in_model() {
        // The model says that the measured work takes a second.
        let device = Device::of_speed(1e9, 0.0);
        let calibration = Calibration {
            measurements: vec![
                measured(kind("vit", "lora"), 2.0),
                measured(kind("vit", "fft"), 8.0),
                measured(kind("swin", "fft"), 3.0),
            ],
        };
        let of = |backbone, method| calibration.correction(&kind(backbone, method), &device);
        let same = of("vit", "lora");
        assert!((same.step - 2.0).abs() < 1e-9 && (same.evaluation - 4.0).abs() < 1e-9);
        assert_eq!((same.preparation, same.start_seconds, same.nearness), (1.0, Some(0.25), Nearness::Same));
        let other_method = of("vit", "san");
        assert!((other_method.step - 4.0).abs() < 1e-9, "the geometric mean of 2 and 8");
        assert_eq!(other_method.nearness, Nearness::SameModel);
        assert!((of("convnext", "san").step - (2.0_f64 * 8.0 * 3.0).cbrt()).abs() < 1e-9);
        let half = Kind { precision: Precision::Bf16, ..kind("vit", "lora") };
        assert_eq!(calibration.correction(&half, &device).nearness, Nearness::BuiltIn);
    }

    #[test]
    fn measurements_are_kept_for_this_device_and_commit_and_replaced_by_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::of_speed(1e9, 0.0);
        let mut file = CalibrationFile::open(folder.path()).unwrap();
        file.add(&device, vec![measured(kind("vit", "lora"), 2.0), measured(kind("vit", "san"), 1.0)])
            .unwrap();
        file.add(&device, vec![measured(kind("vit", "lora"), 3.0)]).unwrap();
        let file = CalibrationFile::open(folder.path()).unwrap();
        let calibration = file.of(&device);
        assert_eq!(calibration.measurements.len(), 2);
        assert!(
            (calibration
                .measurements
                .iter()
                .find(|one| one.kind == kind("vit", "lora"))
                .unwrap()
                .step
                .seconds
                - 3.0)
                .abs()
                < 1e-9
        );
        let mut two_threads = device.clone();
        two_threads.threads = 2;
        assert!(file.of(&two_threads).measurements.is_empty());
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        std::fs::write(folder.path().join(FILE), text.replace(COMMIT, "another")).unwrap();
        assert!(CalibrationFile::open(folder.path()).unwrap().of(&device).measurements.is_empty());
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(CalibrationFile::open(folder.path()).unwrap_err().to_string().contains("--calibrate"));
    }
}

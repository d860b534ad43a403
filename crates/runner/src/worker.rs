//! A worker: claims cells that are not done, one after the other, and writes their records.
//!
//! A claim is a lock on a file, which the operating system drops when the process dies, so that no
//! claim outlives its worker and two runners never run one cell. A cell is made in a scratch folder
//! that takes the cell's name when it is whole; the state of its training lies apart (`checkpoint`).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use report::record::{self, RECORD_FILE, Record};
use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::checkpoint::{self, CheckpointFile};
use crate::context::Context;
use crate::device;
use crate::error::RunError;
use crate::execute::{Outcome, execute};
use crate::files::{create_folder, publish_folder, write_json, writing};
use crate::plan::Store;
use crate::signals::StopFlag;
use crate::training::Session;

/// What a worker tells the pool, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Message {
    /// A cell began.
    Started {
        /// The cell for a reader: set, method, seed.
        label: String,
    },
    /// Steps of the cell in hand.
    Stepped {
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
    },
    /// The cell in hand is done.
    Finished,
}

/// Folder of the claims.
const LOCKS: &str = ".locks";
/// Start of a scratch folder's name; the cell's name follows.
const SCRATCH: &str = ".scratch-";
/// How often steps are told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// One worker process.
pub struct Worker<'a> {
    store: &'a Store,
    context: &'a mut Context,
    threads: u32,
    checkpoint_every: Duration,
    stop: &'a StopFlag,
    code: Code,
}

impl<'a> Worker<'a> {
    /// A worker over the cells in `store`; `threads` is for the record.
    pub fn new(
        store: &'a Store,
        context: &'a mut Context,
        threads: u32,
        checkpoint_every: Duration,
        stop: &'a StopFlag,
    ) -> Self {
        Self { store, context, threads, checkpoint_every, stop, code: Code::of_this_checkout() }
    }

    /// Runs every cell of `cells` that is neither done nor claimed by another.
    ///
    /// # Errors
    /// For the first cell that cannot run, or when a signal asked to stop.
    pub fn work(&mut self, cells: &[Cell], output: &mut dyn Write) -> Result<()> {
        let locks = self.store.folder.join(LOCKS);
        create_folder(&locks)?;
        for cell in cells {
            self.stop.check()?;
            let name = cell.name();
            if self.store.is_done(&name) {
                continue;
            }
            let lock_path = locks.join(&name);
            let lock = writing(&lock_path, File::create(&lock_path))?;
            if lock.try_lock().is_err() || self.store.is_done(&name) {
                continue;
            }
            tell(output, &Message::Started { label: label(cell) })?;
            let (mut told, stop) = (Instant::now(), self.stop);
            let mut progress = |done, total| {
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    if tell(output, &Message::Stepped { done, total }).is_err() {
                        stop.set(); // the pool is gone, and with it whoever wanted the result
                    }
                }
            };
            self.run_cell(cell, &name, &mut progress)?;
            writing(&lock_path, std::fs::remove_file(&lock_path))?;
            tell(output, &Message::Finished)?;
        }
        Ok(())
    }

    fn run_cell(&mut self, cell: &Cell, name: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let scratch = self.store.folder.join(format!("{SCRATCH}{name}"));
        if scratch.exists() {
            writing(&scratch, std::fs::remove_dir_all(&scratch))?;
        }
        create_folder(&scratch)?;
        device::reset_peak_memory();
        let result = self.fill(cell, name, &scratch, progress);
        if result.is_err() {
            // What is left of a cell that failed is of no use to anybody.
            let _ = std::fs::remove_dir_all(&scratch);
        }
        result
    }

    fn fill(
        &mut self,
        cell: &Cell,
        name: &str,
        scratch: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let checkpoint = CheckpointFile::new(&self.store.folder, name, self.checkpoint_every);
        let mut session = Session { stop: self.stop, checkpoint: &checkpoint, progress };
        let outcome = execute(cell, self.context, scratch, &mut session)?;
        write_json(&scratch.join("cell.json"), cell)?;
        write_json(&scratch.join(RECORD_FILE), &self.record(cell, name, outcome)?)?;
        publish_folder(scratch, &self.store.cell(name))?;
        Ok(checkpoint.remove()?)
    }

    fn record(&self, cell: &Cell, name: &str, outcome: Outcome) -> Result<Record> {
        let mut protocol = serde_json::to_value(&cell.protocol)?;
        protocol["learning_rate"] = cell.learning_rate.into();
        protocol["chosen_from"] = cell.chosen_from.clone().into();
        let method = cell.method()?;
        Ok(Record {
            schema: record::SCHEMA,
            cell: name.to_owned(),
            experiment: cell.experiment.clone(),
            suite: cell.suite.clone(),
            profile: cell.profile.clone(),
            stage: cell.stage,
            state: outcome.state,
            dataset: outcome.dataset,
            backbone: record::Backbone {
                name: cell.backbone.clone(),
                checksum: cell.weights_checksum.clone(),
            },
            method: record::Method {
                name: cell.method.clone(),
                label: method.label(),
                config: method.options(),
            },
            seed: cell.seed,
            protocol,
            parameters: outcome.parameters,
            metrics: outcome.metrics,
            cost: record::Cost {
                train_seconds: outcome.training.as_secs_f64(),
                evaluate_seconds: outcome.evaluation.as_secs_f64(),
                data_seconds: outcome.reading.as_secs_f64(),
                peak_memory: device::peak_memory(),
                adapter_bytes: outcome.adapter_bytes,
            },
            provenance: self.provenance(),
        })
    }

    fn provenance(&self) -> record::Provenance {
        record::Provenance {
            commit: self.code.commit.clone(),
            dirty: self.code.dirty,
            version: env!("CARGO_PKG_VERSION").into(),
            libtorch: env!("LIBTORCH_VERSION").into(),
            device: device::describe(self.context.device()),
            threads: self.threads,
            finished_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        }
    }
}

fn tell(output: &mut dyn Write, message: &Message) -> Result<()> {
    serde_json::to_writer(&mut *output, message)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}

fn label(cell: &Cell) -> String {
    format!("{} {} seed {} lr {}", cell.set_label(), cell.method, cell.seed, cell.learning_rate)
}

/// The code that ran.
#[derive(Debug)]
struct Code {
    commit: String,
    dirty: bool,
}

impl Code {
    fn of_this_checkout() -> Self {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        Self {
            commit: git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into()),
            dirty: git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty()),
        }
    }
}

/// Removes what workers that died left behind: scratch folders, halves of checkpoints, and checkpoints
/// of cells that are done.
///
/// # Errors
/// When the folder cannot be written.
pub fn clean(store: &Store) -> Result<(), RunError> {
    for path in entries(&store.folder) {
        if let Some(cell) = file_name(&path).strip_prefix(SCRATCH) {
            unless_claimed(store, cell, || writing(&path, std::fs::remove_dir_all(&path)))?;
        }
    }
    for path in entries(&store.folder.join(checkpoint::FOLDER)) {
        let name = file_name(&path);
        let half = name.strip_prefix('.');
        let cell = half.unwrap_or(name).split('.').next().unwrap_or_default();
        if half.is_some() || store.is_done(cell) {
            unless_claimed(store, cell, || writing(&path, std::fs::remove_file(&path)))?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Does something to what belongs to a cell, unless a living worker has claimed the cell.
fn unless_claimed(
    store: &Store,
    cell: &str,
    act: impl FnOnce() -> Result<(), RunError>,
) -> Result<(), RunError> {
    let lock_path = store.folder.join(LOCKS).join(cell);
    if File::create(&lock_path).is_ok_and(|lock| lock.try_lock().is_ok()) {
        act()?;
        writing(&lock_path, std::fs::remove_file(&lock_path))?;
    }
    Ok(())
}

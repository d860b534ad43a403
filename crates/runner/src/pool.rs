//! Worker processes on this machine, and their progress for a reader.
//!
//! Processes, not threads: a cell's peak memory is its process's, a crash costs one cell, and
//! libtorch's thread counts are each worker's own.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::error::RunError;
use crate::plan::Store;
use crate::signals::StopFlag;
use crate::worker::{Message, clean};

/// What a worker is started with, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// All cells of the stage, in order.
    pub cells: Vec<Cell>,
    /// Folder of the store.
    pub folder: std::path::PathBuf,
    /// Name of the device.
    pub device: String,
    /// Compute threads.
    pub threads: u32,
    /// How often the state of a cell is saved.
    pub checkpoint_every: Duration,
}

/// How many workers with how many threads.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Number of processes.
    pub workers: u32,
    /// Compute threads of each.
    pub threads: u32,
    /// Name of the device.
    pub device: String,
    /// How often the state of a cell is saved.
    pub checkpoint_every: Duration,
}

impl Pool {
    /// Runs the cells that are not done; returns when all are.
    ///
    /// # Errors
    /// When a worker fails (it has said why), or a signal asked to stop.
    pub fn run(&self, title: &str, cells: &[Cell], store: &Store, stop: &StopFlag) -> Result<()> {
        clean(store)?;
        let open = cells.iter().filter(|cell| !store.is_done(&cell.name())).count();
        if open == 0 {
            return Ok(());
        }
        let (sender, messages) = mpsc::channel();
        let workers = self.workers.clamp(1, u32::try_from(open).unwrap_or(u32::MAX));
        let mut children = Vec::new();
        for index in 0..workers as usize {
            let assignment = Assignment {
                cells: cells.to_vec(),
                folder: store.folder.clone(),
                device: self.device.clone(),
                threads: self.threads,
                checkpoint_every: self.checkpoint_every,
            };
            let mut child = self.spawn(&assignment)?;
            let output = child.stdout.take().context("a worker has no output")?;
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Ok(message) = serde_json::from_str::<Message>(&line) {
                        let _ = sender.send((index, message));
                    }
                }
            });
            children.push(child);
        }
        drop(sender);
        Display::new(title, open, workers as usize).follow(&messages, stop, &children);
        reap(children, stop)
    }

    fn spawn(&self, assignment: &Assignment) -> Result<Child> {
        let threads = self.threads.to_string();
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .envs(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"].map(|name| (name, &threads)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C reaches this process alone, which then asks the workers, once.
            .process_group(0)
            .spawn()
            .context("starting a worker")?;
        let mut input = child.stdin.take().context("a worker has no input")?;
        input.write_all(&serde_json::to_vec(assignment)?)?;
        Ok(child)
    }
}

/// Waits for all workers.
fn reap(children: Vec<Child>, stop: &StopFlag) -> Result<()> {
    let workers = children.len();
    let mut codes = Vec::new();
    for mut child in children {
        codes.push(child.wait()?.code().unwrap_or(1));
    }
    stop.check()?;
    let failed: Vec<i32> = codes.into_iter().filter(|code| *code != 0).collect();
    match failed.first() {
        None => Ok(()),
        Some(75) => Err(RunError::Interrupted.into()),
        Some(&code) => Err(RunError::Workers { failed: failed.len(), workers, code }.into()),
    }
}

/// Asks every worker to stop.
fn terminate(children: &[Child]) {
    for child in children {
        // `kill` is on every system that has SIGTERM; the standard library sends only SIGKILL.
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    }
}

/// One bar for all cells and one a worker, or a line now and then where nobody watches.
struct Display {
    bars: MultiProgress,
    all: ProgressBar,
    workers: Vec<ProgressBar>,
    watched: bool,
    started: Instant,
    last_line: Instant,
    done: usize,
    total: usize,
    title: String,
}

/// How often a line is printed where standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(20);

impl Display {
    fn new(title: &str, total: usize, workers: usize) -> Self {
        let bars = MultiProgress::new();
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let all = bars.add(ProgressBar::new(total as u64));
        all.set_style(style("{prefix} {bar:30} {pos}/{len} cells, {elapsed} gone, {eta} left"));
        all.set_prefix(title.to_owned());
        let worker = style("  {bar:20} {msg}");
        let workers =
            (0..workers).map(|_| bars.add(ProgressBar::new(1)).with_style(worker.clone())).collect();
        let now = Instant::now();
        Self {
            bars,
            all,
            workers,
            watched: std::io::stderr().is_terminal(),
            started: now,
            last_line: now,
            done: 0,
            total,
            title: title.to_owned(),
        }
    }

    /// Shows messages until every worker has closed its output.
    fn follow(mut self, messages: &Receiver<(usize, Message)>, stop: &StopFlag, children: &[Child]) {
        let mut asked = false;
        loop {
            if stop.is_set() && !asked {
                asked = true;
                terminate(children);
            }
            match messages.recv_timeout(Duration::from_millis(200)) {
                Ok((worker, message)) => self.show(worker, message),
                Err(RecvTimeoutError::Timeout) => self.all.tick(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.all.finish_and_clear();
        for bar in &self.workers {
            bar.finish_and_clear();
        }
        let _ = self.bars.clear();
        eprintln!(
            "{}: {} of {} cells in {}",
            self.title,
            self.done,
            self.total,
            HumanDuration(self.started.elapsed())
        );
    }

    fn show(&mut self, worker: usize, message: Message) {
        let bar = &self.workers[worker];
        match message {
            Message::Started { label } => {
                bar.set_position(0);
                bar.set_message(label);
            }
            Message::Stepped { done, total } => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Message::Finished => {
                self.done += 1;
                self.all.inc(1);
            }
        }
        if !self.watched && self.done > 0 && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            #[allow(clippy::cast_possible_truncation)]
            let left = self.started.elapsed() / self.done as u32 * (self.total - self.done) as u32;
            eprintln!(
                "{}: {}/{} cells, about {} left",
                self.title,
                self.done,
                self.total,
                HumanDuration(left)
            );
        }
    }
}

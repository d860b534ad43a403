//! Supervises the workers of one stage: starts them, reads their messages, replaces and stops them.
//!
//! A worker that dies (killed, out of memory, crashed, hung) is replaced, and its runs resume from their checkpoint; runs
//! that have ended [`MAX_WORKER_FAILURES`] workers are marked as failed, so that every sweep ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::RunError;
use crate::store::Store;
use crate::store::failure;
use crate::train::signals::{RESUMABLE, StopFlag, WORKER_DEADLINE};
use crate::workers::display::Display;
use crate::workers::gpus::{Gpu, VISIBLE};
use crate::workers::memory;
use crate::workers::pool::{Assignment, Pool};
use crate::workers::worker::Message;

/// glibc's allocator keeps large blocks for the next step. By default it returns them to the system after each step, and
/// a sixth of the time of a small model's training is spent on page faults. Variables that the user has set prevail.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "4294967296"),
    ("MALLOC_TOP_PAD_", "67108864"),
];

/// A command of this program with the threads, the GPU and the allocator of a worker.
pub(super) fn command(name: &str, threads: u32, gpu: Option<&Gpu>) -> Result<Command> {
    let threads = threads.to_string();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(name)
        .envs(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"].map(|name| (name, &threads)))
        .envs(gpu.map(|gpu| (VISIBLE, &gpu.id)))
        .envs(ALLOCATOR.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    Ok(command)
}

/// A group of runs that has ended this many workers is marked as failed.
const MAX_WORKER_FAILURES: u32 = 3;
/// How often workers are checked.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// How often their memory is checked.
const MEMORY_EVERY: Duration = Duration::from_secs(1);
/// How long a worker that was asked to stop may take: its own deadline, and the time of a signal.
const PATIENCE: Duration = WORKER_DEADLINE.saturating_add(Duration::from_millis(500));
/// Exit code of a panic.
const PANIC: i32 = 101;

/// The workers of one stage.
pub(crate) struct Supervisor<'a> {
    pool: &'a Pool,
    store: &'a Store,
    assignment: Vec<u8>,
    sender: Sender<(usize, Message)>,
    messages: Receiver<(usize, Message)>,
    slots: Vec<WorkerSlot>,
    display: Display,
    losses: BTreeMap<Vec<String>, u32>,
    /// Exit codes of workers that ended with an error of their own.
    failed: Vec<i32>,
    memory_checked: Instant,
}

/// A worker process and its state.
struct WorkerSlot {
    worker: Option<Child>,
    listener: Option<JoinHandle<()>>,
    /// The names of the current group's runs, and its label.
    current: Option<(Vec<String>, String)>,
    checks: u64,
    /// When the worker's loops last advanced.
    alive: Instant,
    /// Whether the worker was asked to stop because of the memory limit, and is not to be replaced.
    stopping: bool,
    /// Whether it was asked to stop because its run exceeds the limit by itself; another worker takes the other runs.
    too_large: bool,
    /// When it was asked to stop because of the memory limit.
    asked: Option<Instant>,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(
        pool: &'a Pool,
        title: &str,
        assignment: &Assignment,
        store: &'a Store,
        workers: u32,
    ) -> Result<Self> {
        let (sender, messages) = mpsc::channel();
        let mut supervisor = Self {
            pool,
            store,
            assignment: serde_json::to_vec(assignment)?,
            sender,
            messages,
            slots: Vec::new(),
            display: Display::new(title, assignment.open, workers as usize),
            losses: BTreeMap::new(),
            failed: Vec::new(),
            memory_checked: Instant::now(),
        };
        for index in 0..workers as usize {
            let slot = supervisor.start_worker(index)?;
            supervisor.slots.push(slot);
        }
        Ok(supervisor)
    }

    /// Starts a worker for a slot, which pins it to the slot's GPU.
    fn start_worker(&self, index: usize) -> Result<WorkerSlot> {
        let mut worker = command("worker", self.pool.threads, self.pool.gpu(index))?
            // Ctrl-C reaches only this process, which then asks each worker once.
            .process_group(0)
            .spawn()
            .context("starting a worker")?;
        let mut input = worker.stdin.take().context("a worker has no input")?;
        // A worker that dies before it has read everything is handled like any other.
        let _ = input.write_all(&self.assignment);
        drop(input);
        let output = worker.stdout.take().context("a worker has no output")?;
        let sender = self.sender.clone();
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(message) = serde_json::from_str::<Message>(&line) {
                    let _ = sender.send((index, message));
                }
            }
        });
        Ok(WorkerSlot {
            worker: Some(worker),
            listener: Some(listener),
            current: None,
            checks: 0,
            alive: Instant::now(),
            stopping: false,
            too_large: false,
            asked: None,
        })
    }

    /// Processes messages until every worker has ended.
    pub(crate) fn wait(mut self, stop: &StopFlag) -> Result<()> {
        let mut asked: Option<Instant> = None;
        while self.slots.iter().any(|slot| slot.worker.is_some()) {
            if let Ok((index, message)) = self.messages.recv_timeout(POLL_EVERY) {
                self.on_message(index, &message);
            }
            self.display.tick();
            match asked {
                None if stop.is_set() => {
                    asked = Some(Instant::now());
                    self.slots.iter().for_each(WorkerSlot::ask_to_stop);
                }
                Some(since) if since.elapsed() > PATIENCE => {
                    self.slots.iter_mut().for_each(WorkerSlot::kill);
                }
                _ => {}
            }
            self.poll(stop)?;
            if asked.is_none() {
                self.enforce_memory()?;
            }
        }
        self.display.finish();
        stop.check()?;
        match self.failed.first() {
            None => Ok(()),
            Some(&code) => {
                let (failed, workers) = (self.failed.len(), self.slots.len());
                Err(RunError::Workers { failed, workers, code }.into())
            }
        }
    }

    fn on_message(&mut self, index: usize, message: &Message) {
        let slot = &mut self.slots[index];
        match message {
            Message::Heartbeat { checks } if *checks == slot.checks => return,
            Message::Heartbeat { checks } => slot.checks = *checks,
            Message::Started { runs, label } => slot.current = Some((runs.clone(), label.clone())),
            Message::Finished { .. } | Message::Failed => slot.current = None,
            Message::Stepped { .. } => {}
        }
        slot.alive = Instant::now();
        self.display.show(index, message);
    }

    /// Checks whether each worker has ended or hangs.
    fn poll(&mut self, stop: &StopFlag) -> Result<()> {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let Some(worker) = &mut slot.worker else { continue };
            if let Some(status) = worker.try_wait()? {
                self.on_exit(index, status, stop)?;
            } else if slot.asked.is_some_and(|since| since.elapsed() > PATIENCE) {
                slot.kill();
            } else if slot.alive.elapsed() > self.pool.hung_after {
                let (seconds, process) = (self.pool.hung_after.as_secs(), worker.id());
                self.display
                    .say(&format!("worker {process} has not responded for {seconds} s and is terminated"));
                self.slots[index].kill();
            }
        }
        Ok(())
    }

    /// A worker has ended: normally, with an error, or killed.
    fn on_exit(&mut self, index: usize, status: ExitStatus, stop: &StopFlag) -> Result<()> {
        let slot = &mut self.slots[index];
        slot.worker = None;
        if let Some(listener) = slot.listener.take() {
            // Its last messages are in the channel once its output is closed.
            let _ = listener.join();
        }
        let received: Vec<_> = self.messages.try_iter().collect();
        for (from, message) in received {
            self.on_message(from, &message);
        }
        let slot = &mut self.slots[index];
        let current = slot.current.take();
        if stop.is_set() || slot.stopping {
            return Ok(());
        }
        if slot.too_large {
            self.slots[index] = self.start_worker(index)?;
            return Ok(());
        }
        match status.code() {
            Some(0) => Ok(()),
            // Another process asked this worker to stop; its run resumes from what it saved.
            Some(RESUMABLE | PANIC) | None => self.replace(index, current, status),
            // Its failed runs are marked with their reasons, or nothing can be written at all.
            Some(code) => {
                self.failed.push(code);
                Ok(())
            }
        }
    }

    fn replace(
        &mut self,
        index: usize,
        current: Option<(Vec<String>, String)>,
        status: ExitStatus,
    ) -> Result<()> {
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (_, Some(code)) => format!("exited with code {code}"),
            _ => "ended".into(),
        };
        let (runs, label) = current.unwrap_or_default();
        let losses = self.losses.entry(runs.clone()).or_default();
        *losses += 1;
        let losses = *losses;
        if runs.is_empty() && losses >= MAX_WORKER_FAILURES {
            self.display.say(&format!("workers exit before their first run; the last one {how}"));
            self.failed.push(status.code().unwrap_or(1));
            return Ok(());
        }
        if !runs.is_empty() && losses >= MAX_WORKER_FAILURES {
            let reason = format!("it has ended {losses} workers; the last one {how}");
            self.display.say(&format!("{label} failed: {reason}"));
            failure::mark_group(self.store, &runs, &label, &reason, crate::error::RUN_FAILED)?;
        } else {
            let at = if label.is_empty() { String::new() } else { format!(" at {label}") };
            self.display.say(&format!("a worker{at} {how}; another one takes over"));
        }
        self.slots[index] = self.start_worker(index)?;
        Ok(())
    }

    /// Stops workers while all of them together exceed the memory limit.
    fn enforce_memory(&mut self) -> Result<()> {
        let Some(budget) = self.pool.memory else { return Ok(()) };
        if self.memory_checked.elapsed() < MEMORY_EVERY {
            return Ok(());
        }
        self.memory_checked = Instant::now();
        let living: Vec<usize> =
            (0..self.slots.len()).filter(|&index| self.slots[index].process().is_some()).collect();
        let is_ending = |slot: &WorkerSlot| slot.stopping || slot.too_large;
        if living.iter().any(|&index| is_ending(&self.slots[index])) {
            return Ok(()); // one is on its way out
        }
        let total: u64 = living.iter().filter_map(|&i| self.slots[i].process()).map(memory::resident).sum();
        let Some(&last) = living.last().filter(|_| total > budget) else { return Ok(()) };
        let (has, may) = (memory::in_words(total), memory::in_words(budget));
        let slot = &mut self.slots[last];
        slot.ask_to_stop();
        slot.asked = Some(Instant::now());
        if living.len() > 1 {
            slot.stopping = true;
            self.display
                .say(&format!("the workers use {has} of {may}: one of them is stopped and will resume"));
        } else if let Some((runs, label)) = &slot.current {
            let reason = format!("it needs {has}, but the memory limit for all workers is {may}");
            self.display.say(&format!("{label} failed: {reason}"));
            failure::mark_group(self.store, runs, label, &reason, crate::error::RUN_FAILED)?;
            // Another worker runs the rest.
            slot.too_large = true;
        }
        Ok(())
    }
}

impl WorkerSlot {
    fn process(&self) -> Option<u32> {
        self.worker.as_ref().map(Child::id)
    }

    fn ask_to_stop(&self) {
        if let Some(process) = self.worker.as_ref().map(Pid::from_child) {
            // A worker that has just ended has nothing to save.
            let _ = kill_process(process, Signal::TERM);
        }
    }

    fn kill(&mut self) {
        self.alive = Instant::now();
        if let Some(worker) = &mut self.worker {
            let _ = worker.kill();
        }
    }
}

impl Drop for Supervisor<'_> {
    /// After an error of this process no worker keeps running without it.
    fn drop(&mut self) {
        for slot in &mut self.slots {
            slot.ask_to_stop();
            if let Some(worker) = &mut slot.worker {
                let _ = worker.wait();
            }
        }
    }
}

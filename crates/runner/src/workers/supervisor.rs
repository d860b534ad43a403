//! The workers of one stage while they run: started, listened to, replaced, ended.
//!
//! A worker that dies (killed, out of memory, crashed, hung) is replaced, and its run goes on from its
//! checkpoint; a run that ends its worker [`DEATHS`] times is given up, so that every run comes to an
//! end.

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
use crate::workers::memory;
use crate::workers::pool::{Assignment, Pool};
use crate::workers::worker::Message;

/// A run that has ended so many workers is given up.
const DEATHS: u32 = 3;
/// How often workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often their memory is looked at.
const WEIGH_EVERY: Duration = Duration::from_secs(1);
/// Exit code of a panic.
const PANIC: i32 = 101;

/// The workers of one stage.
pub(crate) struct Team<'a> {
    pool: &'a Pool,
    store: &'a Store,
    assignment: Vec<u8>,
    sender: Sender<(usize, Message)>,
    messages: Receiver<(usize, Message)>,
    seats: Vec<Seat>,
    display: Display,
    deaths: BTreeMap<String, u32>,
    /// Exit codes of workers that ended with an error of their own.
    failed: Vec<i32>,
    weighed: Instant,
}

/// A place in the team, and who sits there.
struct Seat {
    worker: Option<Child>,
    listener: Option<JoinHandle<()>>,
    /// Name and label of the run in hand.
    hand: Option<(String, String)>,
    beats: u64,
    /// When the loops were last seen to go round.
    alive: Instant,
    /// Whether the worker was asked to end for want of memory, and is not to be replaced.
    dismissed: bool,
}

impl<'a> Team<'a> {
    pub(crate) fn new(
        pool: &'a Pool,
        title: &str,
        assignment: &Assignment,
        store: &'a Store,
        workers: u32,
    ) -> Result<Self> {
        let (sender, messages) = mpsc::channel();
        let mut team = Self {
            pool,
            store,
            assignment: serde_json::to_vec(assignment)?,
            sender,
            messages,
            seats: Vec::new(),
            display: Display::new(title, assignment.runs.len(), workers as usize),
            deaths: BTreeMap::new(),
            failed: Vec::new(),
            weighed: Instant::now(),
        };
        for index in 0..workers as usize {
            let seat = team.fill(index)?;
            team.seats.push(seat);
        }
        Ok(team)
    }

    /// Starts a worker for a seat.
    fn fill(&self, index: usize) -> Result<Seat> {
        let threads = self.pool.threads.to_string();
        let mut worker = Command::new(std::env::current_exe()?)
            .arg("worker")
            .envs(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"].map(|name| (name, &threads)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C reaches this process alone, which then asks the workers, once.
            .process_group(0)
            .spawn()
            .context("starting a worker")?;
        let mut input = worker.stdin.take().context("a worker has no input")?;
        // One that dies before it has read everything is dealt with like any other.
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
        Ok(Seat {
            worker: Some(worker),
            listener: Some(listener),
            hand: None,
            beats: 0,
            alive: Instant::now(),
            dismissed: false,
        })
    }

    /// Listens until every worker has ended.
    pub(crate) fn follow(mut self, stop: &StopFlag) -> Result<()> {
        let mut asked: Option<Instant> = None;
        while self.seats.iter().any(|seat| seat.worker.is_some()) {
            if let Ok((index, message)) = self.messages.recv_timeout(LOOK_EVERY) {
                self.hear(index, &message);
            }
            self.display.tick();
            match asked {
                None if stop.is_set() => {
                    asked = Some(Instant::now());
                    self.seats.iter().for_each(Seat::ask_to_stop);
                }
                Some(since) if since.elapsed() > WORKER_DEADLINE + Duration::from_millis(500) => {
                    self.seats.iter_mut().for_each(Seat::kill);
                }
                _ => {}
            }
            self.look(stop)?;
            if asked.is_none() {
                self.weigh()?;
            }
        }
        self.display.finish();
        stop.check()?;
        match self.failed.first() {
            None => Ok(()),
            Some(&code) => {
                let (failed, workers) = (self.failed.len(), self.seats.len());
                Err(RunError::Workers { failed, workers, code }.into())
            }
        }
    }

    fn hear(&mut self, index: usize, message: &Message) {
        let seat = &mut self.seats[index];
        match message {
            Message::Beat { beats } if *beats == seat.beats => return,
            Message::Beat { beats } => seat.beats = *beats,
            Message::Started { run, label } => seat.hand = Some((run.clone(), label.clone())),
            Message::Finished | Message::Failed => seat.hand = None,
            Message::Stepped { .. } => {}
        }
        seat.alive = Instant::now();
        self.display.show(index, message);
    }

    /// Looks after each worker: has it ended, does it hang?
    fn look(&mut self, stop: &StopFlag) -> Result<()> {
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            let Some(worker) = &mut seat.worker else { continue };
            if let Some(status) = worker.try_wait()? {
                self.bury(index, status, stop)?;
            } else if seat.alive.elapsed() > self.pool.hung_after {
                let (seconds, process) = (self.pool.hung_after.as_secs(), worker.id());
                self.display.say(&format!("worker {process} has stood still for {seconds} s and is ended"));
                self.seats[index].kill();
            }
        }
        Ok(())
    }

    /// A worker has ended: well, with an error, or by force.
    fn bury(&mut self, index: usize, status: ExitStatus, stop: &StopFlag) -> Result<()> {
        let seat = &mut self.seats[index];
        seat.worker = None;
        if let Some(listener) = seat.listener.take() {
            // Its last words are in the channel when it has come to the end of its output.
            let _ = listener.join();
        }
        let heard: Vec<_> = self.messages.try_iter().collect();
        for (from, message) in heard {
            self.hear(from, &message);
        }
        let seat = &mut self.seats[index];
        let hand = seat.hand.take();
        if stop.is_set() || seat.dismissed {
            return Ok(());
        }
        match status.code() {
            Some(0) => Ok(()),
            // Somebody else has asked this worker to stop; what it saved is gone on with.
            Some(RESUMABLE | PANIC) | None => self.replace(index, hand, status),
            // Its runs have been given up with their reasons, or nothing can be written.
            Some(code) => {
                self.failed.push(code);
                Ok(())
            }
        }
    }

    fn replace(&mut self, index: usize, hand: Option<(String, String)>, status: ExitStatus) -> Result<()> {
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (_, Some(code)) => format!("ended with code {code}"),
            _ => "ended".into(),
        };
        let (run, label) = hand.unwrap_or_default();
        let deaths = self.deaths.entry(run.clone()).or_default();
        *deaths += 1;
        let deaths = *deaths;
        if run.is_empty() && deaths >= DEATHS {
            self.display.say(&format!("workers end before their first run: the last {how}"));
            self.failed.push(status.code().unwrap_or(1));
            return Ok(());
        }
        if !run.is_empty() && deaths >= DEATHS {
            let reason = format!("it has ended {deaths} workers; the last {how}");
            self.display.say(&format!("{label} is given up: {reason}"));
            failure::give_up(self.store, &run, &label, &reason, crate::error::GAVE_UP)?;
        } else {
            let at = if label.is_empty() { String::new() } else { format!(" at {label}") };
            self.display.say(&format!("a worker{at} {how}; another goes on"));
        }
        self.seats[index] = self.fill(index)?;
        Ok(())
    }

    /// Ends workers that need more memory than they have together.
    fn weigh(&mut self) -> Result<()> {
        let Some(budget) = self.pool.memory else { return Ok(()) };
        if self.weighed.elapsed() < WEIGH_EVERY {
            return Ok(());
        }
        self.weighed = Instant::now();
        let living: Vec<usize> =
            (0..self.seats.len()).filter(|&index| self.seats[index].process().is_some()).collect();
        if living.iter().any(|&index| self.seats[index].dismissed) {
            return Ok(()); // one is on its way out
        }
        let total: u64 = living.iter().filter_map(|&i| self.seats[i].process()).map(memory::resident).sum();
        let Some(&last) = living.last().filter(|_| total > budget) else { return Ok(()) };
        let (has, may) = (memory::in_words(total), memory::in_words(budget));
        let seat = &mut self.seats[last];
        seat.dismissed = true;
        seat.ask_to_stop();
        if living.len() > 1 {
            self.display.say(&format!("the workers hold {has} of {may}: one of them ends, saved"));
        } else if let Some((run, label)) = &seat.hand {
            let reason = format!("it needs {has}, and {may} is the memory for all workers");
            self.display.say(&format!("{label} is given up: {reason}"));
            failure::give_up(self.store, run, label, &reason, crate::error::GAVE_UP)?;
        }
        Ok(())
    }
}

impl Seat {
    fn process(&self) -> Option<u32> {
        self.worker.as_ref().map(Child::id)
    }

    fn ask_to_stop(&self) {
        if let Some(process) = self.worker.as_ref().map(Pid::from_child) {
            // One that has just ended has nothing to save.
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

impl Drop for Team<'_> {
    /// After an error of this process no worker goes on alone.
    fn drop(&mut self) {
        for seat in &mut self.seats {
            seat.ask_to_stop();
            if let Some(worker) = &mut seat.worker {
                let _ = worker.wait();
            }
        }
    }
}

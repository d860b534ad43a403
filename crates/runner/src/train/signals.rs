//! Stops on signals: a signal sets a flag, which the loops poll at every step.
//!
//! SIGTERM, SIGINT and SIGUSR1 (Slurm's warning before the end of a job) are treated alike. If there is nothing to save
//! yet, as while data are opened, the process exits immediately; and if a step takes longer than the deadline, it exits
//! without waiting, since its last saved state is on disk.
//!
//! Only a thread that does nothing else receives these signals. A handler runs on the stack of the thread that it
//! interrupts, and oneDNN's generated code uses the stack pointer as an ordinary register: a signal in the middle of a
//! product would overwrite memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use crate::error::RunError;
use crate::messages::message;

/// Exit code of a process that was stopped by a signal and that the same command resumes.
pub const RESUMABLE: i32 = 75;

/// The maximum time from a signal to the end of a worker.
pub const WORKER_DEADLINE: Duration = Duration::from_secs(8);
/// The same for the process that waits for the workers.
pub const RUNNER_DEADLINE: Duration = Duration::from_millis(9500);

/// How often the flag is polled for the deadline.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Whether a signal asked to stop, and how often this was checked.
#[derive(Debug, Clone, Default)]
pub struct StopFlag {
    asked: Arc<AtomicBool>,
    nothing_to_save: Arc<AtomicBool>,
    checks: Arc<AtomicU64>,
    installed: bool,
}

impl StopFlag {
    /// Installs the handlers; a second signal exits immediately, and so does a first one that is not handled within
    /// `deadline`, both with [`RESUMABLE`].
    ///
    /// # Errors
    /// When the operating system rejects a handler.
    pub fn install(deadline: Duration) -> io::Result<Self> {
        let flag = Self { installed: true, ..Self::default() };
        for signal in [SIGTERM, SIGINT, SIGUSR1] {
            // In this order: the shutdowns check the flags before this same signal sets one.
            for at_once in [&flag.asked, &flag.nothing_to_save] {
                signal_hook::flag::register_conditional_shutdown(signal, RESUMABLE, at_once.clone())?;
            }
            signal_hook::flag::register(signal, flag.asked.clone())?;
        }
        // Threads that this one starts from now on inherit the mask.
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1].into_iter().collect();
        signals.thread_block()?;
        let asked = flag.asked.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if let Err(error) = signals.thread_unblock() {
                message(format_args!("san: signals are not handled: {error}"));
            }
            while !asked.load(Ordering::Relaxed) {
                std::thread::sleep(POLL_INTERVAL);
            }
            std::thread::sleep(deadline);
            message(format_args!(
                "san: the current step takes longer than the deadline for stopping; the last checkpoint is kept"
            ));
            // Without running destructors: libtorch is busy in another thread.
            signal_hook::low_level::exit(RESUMABLE);
        })?;
        Ok(flag)
    }

    /// Runs work with nothing to save: a signal exits immediately.
    pub fn interruptible<T>(&self, work: impl FnOnce() -> T) -> T {
        self.nothing_to_save.store(true, Ordering::SeqCst);
        if self.installed && self.is_set() {
            // The signal came just before.
            signal_hook::low_level::exit(RESUMABLE);
        }
        let result = work();
        self.nothing_to_save.store(false, Ordering::SeqCst);
        result
    }

    /// Asks to stop, as a signal would.
    pub fn set(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// How often [`StopFlag::check`] was called: it grows as long as the loops run.
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    /// Fails if a signal came.
    ///
    /// # Errors
    /// [`RunError::Interrupted`].
    pub fn check(&self) -> Result<(), RunError> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        if self.is_set() { Err(RunError::Interrupted) } else { Ok(()) }
    }
}

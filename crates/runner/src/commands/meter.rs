//! Progress of a long read or download: a bar on a terminal, otherwise a line every now and then. Both show the time
//! left and go to standard error.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use runner::messages::message;

/// How often a line is printed if standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Images,
    Bytes,
    Steps,
    Projections,
}

/// The progress of one operation.
pub(crate) struct Meter {
    title: String,
    unit: Unit,
    bar: ProgressBar,
    started: Instant,
    /// What was done before the meter started.
    before: u64,
    last_line: Mutex<Instant>,
}

impl Meter {
    /// A meter for an operation of which `before` is done already.
    pub(crate) fn new(title: String, unit: Unit, before: u64) -> Self {
        let counts = match unit {
            Unit::Images => "{pos}/{len} images",
            Unit::Steps => "{pos}/{len} steps",
            Unit::Projections => "{pos}/{len} projections",
            Unit::Bytes => "{bytes}/{total_bytes}, {bytes_per_sec}",
        };
        let template = format!("{{prefix}} {{bar:30}} {counts}, {{eta}} left");
        let style = ProgressStyle::with_template(&template);
        let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_prefix(title.clone());
        let now = Instant::now();
        bar.set_position(before);
        bar.reset_eta();
        Self { title, unit, bar, started: now, before, last_line: Mutex::new(now) }
    }

    /// Reports `done` of `total`; can be called from any thread.
    pub(crate) fn show(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if !self.bar.is_hidden() || done == 0 {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            let new = done.saturating_sub(self.before);
            message(format_args!(
                "{}: {}",
                self.title,
                sentence(self.unit, done, new, total, self.started.elapsed())
            ));
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `1,000 of 5,000 images, about 4 minutes left`; the time left is estimated from the time that the `new` ones took.
#[allow(clippy::cast_precision_loss)]
fn sentence(unit: Unit, done: u64, new: u64, total: u64, gone: Duration) -> String {
    let counts = match unit {
        Unit::Images => format!("{done} of {total} images"),
        Unit::Steps => format!("{done} of {total} steps"),
        Unit::Projections => format!("{done} of {total} projections"),
        Unit::Bytes => format!("{} of {}", HumanBytes(done), HumanBytes(total)),
    };
    if done >= total || new == 0 {
        return counts;
    }
    let left = gone.mul_f64((total - done) as f64 / new as f64);
    format!("{counts}, about {} left", HumanDuration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_in_proportion() {
        let said = sentence(Unit::Images, 100, 100, 400, Duration::from_secs(40));
        assert_eq!(said, "100 of 400 images, about 2 minutes left");
        let said = sentence(Unit::Images, 300, 50, 400, Duration::from_secs(40));
        assert_eq!(said, "300 of 400 images, about 80 seconds left");
        assert_eq!(sentence(Unit::Bytes, 2048, 1, 2048, Duration::from_secs(1)), "2.00 KiB of 2.00 KiB");
    }
}

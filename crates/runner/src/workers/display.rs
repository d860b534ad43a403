//! Progress: a bar for all runs and one per worker on a terminal, otherwise a line every now and then.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use crate::messages;
use crate::workers::worker::Message;

/// How often a line is printed if standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// The progress of a pool.
#[derive(Debug)]
pub(crate) struct Display {
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

impl Display {
    pub(crate) fn new(title: &str, total: usize, workers: usize) -> Self {
        let bars = MultiProgress::new();
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let all = bars.add(ProgressBar::new(total as u64));
        all.set_style(style("{prefix} {bar:30} {pos}/{len} runs, {elapsed} elapsed, {eta} left"));
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

    /// Updates the elapsed time.
    pub(crate) fn tick(&self) {
        self.all.tick();
    }

    /// Prints a line above the bars.
    pub(crate) fn say(&self, line: &str) {
        self.bars.suspend(|| messages::message(format_args!("san: {line}")));
    }

    pub(crate) fn show(&mut self, worker: usize, message: &Message) {
        let bar = &self.workers[worker];
        match message {
            Message::Started { label, .. } => {
                bar.set_position(0);
                bar.set_message(label.clone());
            }
            Message::Stepped { done, total } => {
                bar.set_length(*total);
                bar.set_position(*done);
            }
            Message::Finished { runs } => {
                self.done += runs;
                self.all.inc(*runs as u64);
            }
            Message::Heartbeat { .. } | Message::Failed => {}
        }
        if !self.watched && self.done > 0 && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            #[allow(clippy::cast_precision_loss)]
            let left = self.started.elapsed().mul_f64((self.total - self.done) as f64 / self.done as f64);
            let (title, done, total) = (&self.title, self.done, self.total);
            messages::message(format_args!(
                "{title}: {done}/{total} runs, about {} left",
                HumanDuration(left)
            ));
        }
    }

    /// The last line.
    pub(crate) fn finish(&self) {
        self.all.finish_and_clear();
        for bar in &self.workers {
            bar.finish_and_clear();
        }
        let _ = self.bars.clear();
        let took = HumanDuration(self.started.elapsed());
        messages::message(format_args!("{}: {} of {} runs in {took}", self.title, self.done, self.total));
    }
}

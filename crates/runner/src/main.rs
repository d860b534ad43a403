//! `san`: the program that every recipe of the justfile runs.

// Commands print through `output` and `message`: `println!` and `eprintln!` panic if the output is closed.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runner::error::{EXIT_CODES, RunError, exit_code};
use runner::messages::message;

mod commands;

/// Runs and compares parameter-efficient fine-tuning methods.
#[derive(Debug, Parser)]
#[command(name = "san", version = runner::workers::recorder::VERSION, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what an experiment would run, how long that takes, and what is missing.
    #[command(after_help = commands::plan::EXAMPLES)]
    Plan(commands::plan::PlanArguments),
    /// Execute the unfinished runs of an experiment, then print its table.
    #[command(after_help = commands::run::EXAMPLES)]
    Run(commands::run::RunArguments),
    /// Print the progress of an experiment.
    Status(commands::run::Arguments),
    /// Print tables, or draw figures, of finished runs.
    Report(commands::report::Arguments),
    /// Make every table and figure of all records again, as one page and one LaTeX document.
    Regenerate(commands::regenerate::Arguments),
    /// Evaluate a saved adapter, trained here or by peft, without training.
    Evaluate(commands::evaluate::Arguments),
    /// Enter what a benchmark's server returned for a run's submission file.
    Score(commands::score::Arguments),
    /// Merge a run's adapter into plain weights that timm or transformers can load.
    Merge(commands::merge::Arguments),
    /// List all data sets: classes, split sizes, licence; with --markdown also downloads.
    Datasets(commands::datasets::Arguments),
    /// Download a set, a suite or published weights, from the official addresses, a mirror or a local archive.
    Fetch(commands::fetch::Arguments),
    /// Check every image of a set or suite for damage and duplicates, and write a manifest.
    Verify(commands::verify::Arguments),
    /// Print what would be read from a folder of your own images, and show ten of them.
    Inspect(commands::inspect::Arguments),
    /// Export a run's adapter to the format of Hugging Face's peft.
    Export(commands::exchange::ExportArguments),
    /// Import an adapter saved by Hugging Face's peft.
    Import(commands::exchange::ImportArguments),
    /// List all methods: what they train, what they cost, where they were published.
    Methods(commands::methods::Arguments),
    /// Print which of SAN's scaling vectors goes where in a model.
    Wiring(commands::wiring::Arguments),
    /// Train the projector between a vision tower and a language model.
    Align(commands::align::Arguments),
    /// Train a bundled backbone from scratch on synthetic data.
    Pretrain(commands::pretrain::Arguments),
    /// A task of a Slurm job array, as its script calls it.
    #[command(hide = true)]
    Task(commands::task::Arguments),
    /// Measures what runs cost; what is to be measured comes on standard input.
    #[command(hide = true)]
    Measure,
    /// One worker of a pool; its assignment comes on standard input.
    #[command(hide = true)]
    Worker,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Plan(arguments) => commands::plan::plan(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Status(arguments) => commands::run::status(&arguments),
        Command::Report(arguments) => commands::report::report(&arguments),
        Command::Regenerate(arguments) => commands::regenerate::regenerate(&arguments),
        Command::Evaluate(arguments) => commands::evaluate::evaluate(&arguments),
        Command::Score(arguments) => commands::score::score(&arguments),
        Command::Merge(arguments) => commands::merge::merge(&arguments),
        Command::Datasets(arguments) => commands::datasets::list(&arguments),
        Command::Fetch(arguments) => commands::fetch::fetch(&arguments),
        Command::Verify(arguments) => commands::verify::verify(&arguments),
        Command::Inspect(arguments) => commands::inspect::inspect(&arguments),
        Command::Export(arguments) => commands::exchange::export(&arguments),
        Command::Import(arguments) => commands::exchange::import(&arguments),
        Command::Methods(arguments) => commands::methods::methods(&arguments),
        Command::Wiring(arguments) => commands::wiring::wiring(&arguments),
        Command::Align(arguments) => commands::align::run(&arguments),
        Command::Pretrain(arguments) => commands::pretrain::pretrain(&arguments),
        Command::Task(arguments) => commands::task::task(&arguments),
        Command::Measure => commands::measure::measure(),
        Command::Worker => commands::worker::worker(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit_code(&error);
            if !matches!(error.downcast_ref(), Some(RunError::AlreadyReported { .. })) {
                message(format_args!("san: {}", sentence(&error)));
            }
            ExitCode::from(code)
        }
    }
}

/// An error and its causes in one sentence; a cause that the error already quotes is not repeated.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        if said.is_empty() {
            cause
        } else if said.contains(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

//! Errors of planning and running, and exit codes: one for each kind of problem that a user can fix.

use std::path::PathBuf;

use backbones::tokenizer::TokenizerError;
use data_loaders::{DataError, FetchError};

/// An error of planning and running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An option on the command line is wrong.
    #[error("{reason}")]
    CommandLine {
        /// What is wrong, with the option's name.
        reason: String,
    },
    /// An experiment file is wrong.
    #[error("{path}: {reason}")]
    Experiment {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line where it is known.
        reason: String,
    },
    /// Data, or a run, that a command needs is missing.
    #[error("{what} is missing: {reason}")]
    Missing {
        /// The thing.
        what: String,
        /// Where it was looked for, and what to do.
        reason: String,
    },
    /// Data or weights of a plan are missing.
    #[error("missing: {what}; {hint}")]
    Incomplete {
        /// Names of everything that is missing.
        what: String,
        /// What to do.
        hint: String,
        /// The exit code: that of missing data, or of missing weights.
        code: u8,
    },
    /// The data have changed since the run was planned.
    #[error(
        "`{set}` is not what was planned: its files, or the program that generates it, have changed; plan again"
    )]
    Changed {
        /// The set.
        set: String,
    },
    /// A text is longer than the model's context.
    #[error("{what} has {tokens} tokens; the context of {model} is {context}")]
    TooLong {
        /// Which text.
        what: String,
        /// Number of tokens, including those reserved for the answer.
        tokens: usize,
        /// Name of the model.
        model: String,
        /// The context length, in tokens.
        context: i64,
    },
    /// The input that a model's weights were trained on is not known, or not supported, and the experiment does not give
    /// it.
    #[error(
        "the images that `{backbone}` expects are not known: {reason}; give `image`, or `picture`, in the experiment"
    )]
    UnknownInput {
        /// The backbone.
        backbone: String,
        /// The cause.
        reason: String,
    },
    /// A run failed and has reported why: nothing more is printed.
    #[error("a run failed; see its message above")]
    AlreadyReported {
        /// Exit code of its error.
        code: u8,
    },
    /// Truncation leaves nothing to train on.
    #[error("`max_length` truncates the whole answer of each of the {examples} training examples: raise it")]
    NothingTaught {
        /// How many there are.
        examples: usize,
    },
    /// Selection holds out all training examples.
    #[error("`select` holds out {held_out} examples, and {examples} can be trained on: lower `rows`")]
    NothingLeft {
        /// How many it holds out.
        held_out: usize,
        /// How many there are.
        examples: usize,
    },
    /// Some of the data sets that were checked cannot be used.
    #[error("{} cannot be used; the problems are listed above", sets.join(", "))]
    Unusable {
        /// Their names.
        sets: Vec<String>,
    },
    /// Some sets of a suite could not be fetched.
    #[error("{} could not be fetched; the reasons are listed above; run the same command to continue", sets.join(", "))]
    Unfetched {
        /// Their names.
        sets: Vec<String>,
    },
    /// The results of a run cannot be written as a valid record.
    #[error("the record of this run would be invalid: {reason}")]
    UnsoundRecord {
        /// What is wrong.
        reason: String,
    },
    /// The weights have changed since the run was planned.
    #[error(
        "the weights of `{backbone}` are not those that were planned for: their file has changed; plan again"
    )]
    ChangedWeights {
        /// The backbone.
        backbone: String,
    },
    /// A file of features is not what was written.
    #[error("{path} is damaged; remove it, and the next run makes it again")]
    DamagedFeatures {
        /// The file.
        path: PathBuf,
    },
    /// The file of measured speeds is not what was written.
    #[error("{path} is damaged: {reason}; remove it, and --calibrate makes it again")]
    DamagedCalibration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The results folder cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A signal asked to stop; nothing is lost.
    #[error("stopped by a signal; run the same command again to resume")]
    Interrupted,
    /// Runs failed; everything else is done.
    #[error("{failed} of {runs} runs failed; the first, {label}: {reason}")]
    RunsFailed {
        /// How many failed.
        failed: usize,
        /// How many there are.
        runs: usize,
        /// Label of the first of them.
        label: String,
        /// Why it failed.
        reason: String,
        /// Exit code of that error.
        code: u8,
    },
    /// Slurm is missing, or rejects a request.
    #[error("Slurm: {reason}")]
    Slurm {
        /// Its message.
        reason: String,
    },
    /// There is not enough memory for one worker.
    #[error(
        "a worker needs about {need}, but the memory limit for all workers is {budget}; {source_of_need}"
    )]
    Memory {
        /// The memory that one worker needs.
        need: String,
        /// The memory limit.
        budget: String,
        /// Where the number comes from.
        source_of_need: String,
    },
    /// A worker ended with an error, which it has printed.
    #[error("{failed} of {workers} workers failed; see their messages above")]
    Workers {
        /// How many failed.
        failed: usize,
        /// How many ran.
        workers: usize,
        /// Exit code of the first one that failed.
        code: i32,
    },
}

/// Exit codes, for `--help` and the README.
pub const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   an unexpected error
  2   wrong command line
  3   wrong experiment file, method or option
  4   data or a named run missing or unusable
  5   weights missing or unusable
  6   results cannot be written (read-only folder, full disk)
  7   records cannot be read, or figures not drawn
  8   libtorch failed
  9   a download failed, was refused, or needs its terms accepted
  10  a run failed: its workers died repeatedly, or there is not enough memory
  11  Slurm is missing or refuses
  75  stopped by a signal; run again to resume";

/// Exit code where data are missing.
pub const MISSING_DATA: u8 = 4;
/// Exit code where weights are missing.
pub const MISSING_WEIGHTS: u8 = 5;
/// Exit code where results cannot be written.
pub const WRITE: u8 = 6;
/// Exit code where a run failed.
pub const RUN_FAILED: u8 = 10;
/// Exit code where a signal asked to stop.
pub const INTERRUPTED: u8 = 75;

/// The exit code for an error: that of the first cause whose kind is known.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(1)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = cause.downcast_ref::<RunError>() {
        return Some(match error {
            RunError::CommandLine { .. } => 2,
            RunError::Experiment { .. } | RunError::NothingTaught { .. } | RunError::NothingLeft { .. } => 3,
            RunError::Missing { .. }
            | RunError::Changed { .. }
            | RunError::TooLong { .. }
            | RunError::Unusable { .. }
            | RunError::DamagedFeatures { .. }
            | RunError::DamagedCalibration { .. } => MISSING_DATA,
            RunError::ChangedWeights { .. } | RunError::UnknownInput { .. } => MISSING_WEIGHTS,
            RunError::UnsoundRecord { .. } => 1,
            RunError::Write { .. } => WRITE,
            RunError::Unfetched { .. } => 9,
            RunError::Interrupted => INTERRUPTED,
            RunError::RunsFailed { code, .. }
            | RunError::AlreadyReported { code }
            | RunError::Incomplete { code, .. } => *code,
            RunError::Memory { .. } => RUN_FAILED,
            RunError::Slurm { .. } => 11,
            RunError::Workers { code, .. } => u8::try_from(*code).unwrap_or(1),
        });
    }
    if let Some(error) = core_error(cause) {
        use san_core::Error as E;
        return Some(match error {
            E::UnknownMethod { .. }
            | E::BadOption { .. }
            | E::Unexportable { .. }
            | E::Incompatible { .. } => 3,
            E::File { action: "write", .. } => WRITE,
            E::Torch(_) => 8,
            _ => 5,
        });
    }
    if let Some(error) = cause.downcast_ref::<backbones::Error>() {
        use backbones::Error as E;
        return Some(match error {
            E::UnknownBackbone { .. } | E::ImageSize { .. } | E::Unexportable { .. } => 3,
            E::Torch(_) => 8,
            _ => 5,
        });
    }
    if cause.is::<TokenizerError>() {
        return Some(5);
    }
    if let Some(error) = cause.downcast_ref::<FetchError>() {
        return Some(if matches!(error, FetchError::Write { .. }) { 6 } else { 9 });
    }
    if cause.is::<DataError>() {
        return Some(4);
    }
    if let Some(error) = cause.downcast_ref::<report::ReportError>() {
        return Some(if matches!(error, report::ReportError::Write { .. }) { WRITE } else { 7 });
    }
    cause.is::<report::record::RecordError>().then_some(7)
}

/// The error of `san-core` that this is, directly or through `backbones`.
fn core_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a san_core::Error> {
    match cause.downcast_ref::<backbones::Error>() {
        Some(backbones::Error::Core(error)) => Some(error),
        _ => cause.downcast_ref::<san_core::Error>(),
    }
}

/// Whether a run ended because a value was not finite.
pub fn is_divergence(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(core_error(cause), Some(san_core::Error::NotFinite { .. })))
}

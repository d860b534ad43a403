//! Errors in model specs, weights, files and methods.

use std::path::PathBuf;

/// An error of this crate; each variant names what caused it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A computed value is not finite: training diverged.
    #[error("{what} is not finite")]
    NotFinite {
        /// Which value.
        what: &'static str,
    },
    /// A tensor that was updated had not all of its gradient: an error of the program.
    #[error("tensor `{name}` was given a gradient after it had been updated")]
    LateGradient {
        /// Name of the tensor.
        name: String,
    },
    /// A tensor of the model spec is missing.
    #[error("tensor `{name}` is missing in {place}")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
        /// The file or other place that was searched.
        place: String,
    },
    /// A tensor that the model spec does not have.
    #[error("{place} holds tensor `{name}`, which the model does not have")]
    UnexpectedTensor {
        /// Name of the tensor.
        name: String,
        /// The file or other place that was searched.
        place: String,
    },
    /// A tensor whose shape differs from the model spec's.
    #[error("tensor `{name}` in {place} has shape {found:?}; the model needs {expected:?}")]
    WrongShape {
        /// Name of the tensor.
        name: String,
        /// The file or other place that was searched.
        place: String,
        /// Actual shape.
        found: Vec<i64>,
        /// Expected shape.
        expected: Vec<i64>,
    },
    /// A tensor with a NaN or infinite value.
    #[error("tensor `{name}` in {place} holds NaN or infinity")]
    NotFiniteTensor {
        /// Name of the tensor.
        name: String,
        /// The file or other place that was searched.
        place: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is malformed.
    #[error("{path} is not a usable safetensors file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A pickle was given as weights.
    #[error(
        "{path} is a Python pickle, which can run code when opened; convert it once with: \
         python tools/convert_weights.py {path}"
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// A method cannot be exported to another format.
    #[error("{method} cannot be exported: {reason}")]
    Unexportable {
        /// The method.
        method: String,
        /// The cause.
        reason: String,
    },
    /// No method of that name.
    #[error("there is no method `{name}`; {hint}")]
    UnknownMethod {
        /// The requested name.
        name: String,
        /// The nearest name, or all names.
        hint: String,
    },
    /// A method's options are invalid.
    #[error("method `{method}`: {reason}")]
    BadOption {
        /// The method.
        method: String,
        /// Which option, and the cause.
        reason: String,
    },
    /// A method is not compatible with a backbone.
    #[error("method `{method}` does not fit {backbone}: {reason}")]
    Incompatible {
        /// The method.
        method: String,
        /// The backbone.
        backbone: String,
        /// The cause.
        reason: String,
    },
    /// A method cannot be merged into the frozen weights.
    #[error("`{name}` cannot be merged: {reason}")]
    Unmergeable {
        /// The site or tensor.
        name: String,
        /// The cause.
        reason: String,
    },
    /// A value cannot be written as JSON.
    #[error("cannot serialise as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An error from libtorch.
    #[error("libtorch error: {0}")]
    Torch(#[from] tch::TchError),
}

/// A hint for an unknown name: the nearest known one, or all of them if none is close.
pub fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const MIN_SIMILARITY: f64 = 0.6;
    let known: Vec<&str> = known.collect();
    let similarity = |other: &&str| strsim::jaro_winkler(name, other);
    match known.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b))) {
        Some(best) if similarity(&best) > MIN_SIMILARITY => format!("did you mean `{best}`?"),
        _ => format!("known names are {}", known.join(", ")),
    }
}

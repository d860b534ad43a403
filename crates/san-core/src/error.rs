//! What can go wrong between a layout, its weights and a method.

use std::path::PathBuf;

/// An error of this crate; each variant names the culprit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model computes numbers that are not finite: its training diverged.
    #[error("{what} is not finite")]
    NotFinite {
        /// Which number.
        what: &'static str,
    },
    /// A tensor that the layout names is not there.
    #[error("tensor `{name}` is missing in {place}")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
        /// File, or the thing that was searched.
        place: String,
    },
    /// A tensor that the layout does not know.
    #[error("{place} holds tensor `{name}`, which the model does not have")]
    UnexpectedTensor {
        /// Name of the tensor.
        name: String,
        /// File, or the thing that was searched.
        place: String,
    },
    /// A tensor of another shape than the layout's.
    #[error("tensor `{name}` in {place} has shape {found:?}; the model needs {expected:?}")]
    WrongShape {
        /// Name of the tensor.
        name: String,
        /// File, or the thing that was searched.
        place: String,
        /// Shape that was found.
        found: Vec<i64>,
        /// Shape that is needed.
        expected: Vec<i64>,
    },
    /// A tensor with a value that is not a number, or not a finite one.
    #[error("tensor `{name}` in {place} holds NaN or infinity")]
    NotFiniteTensor {
        /// Name of the tensor.
        name: String,
        /// File, or the thing that was searched.
        place: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not a usable safetensors file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A GGUF file is cut short, or not what it should be.
    #[error("{path} is not a usable GGUF file: {reason}")]
    MalformedGguf {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A published configuration cannot be built.
    #[error("{path} is no configuration that can be built: {reason}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A part of the weights is not there.
    #[error("{shard} is missing, in which {index} has `{tensor}`")]
    MissingShard {
        /// The file that is missing.
        shard: PathBuf,
        /// The list of files.
        index: PathBuf,
        /// A tensor in it.
        tensor: String,
    },
    /// Images and the places for them in a text do not match.
    #[error("the texts have places for {places} image features and their images have {features}")]
    ImagePlaces {
        /// Places in the texts.
        places: i64,
        /// Features of the images.
        features: i64,
    },
    /// A pickle was given as weights.
    #[error(
        "{path} is a Python pickle, which can run code when opened; convert it once with: \
         python3 -c \"import sys, torch; from safetensors.torch import save_file; \
         save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])\" {path} model.safetensors"
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// A method has no form in another program's format.
    #[error("{method} cannot be exported: {reason}")]
    Unexportable {
        /// The method.
        method: String,
        /// Why.
        reason: String,
    },
    /// No method of that name.
    #[error("there is no method `{name}`; {hint}")]
    UnknownMethod {
        /// What was asked for.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// No backbone of that name.
    #[error("there is no backbone `{name}`; {hint}")]
    UnknownBackbone {
        /// What was asked for.
        name: String,
        /// The nearest name.
        hint: String,
    },
    /// The weights of a backbone are not there.
    #[error("the weights of `{backbone}` are missing: looked for {place}")]
    MissingWeights {
        /// The backbone.
        backbone: String,
        /// Where they were searched.
        place: String,
    },
    /// An image size that a backbone cannot read.
    #[error("{backbone} cannot read images of {size} px: {reason}")]
    ImageSize {
        /// The backbone.
        backbone: String,
        /// The size.
        size: i64,
        /// Why.
        reason: String,
    },
    /// A method's options are wrong.
    #[error("method `{method}`: {reason}")]
    BadOption {
        /// The method.
        method: String,
        /// Which option, and why.
        reason: String,
    },
    /// A method does not fit a backbone.
    #[error("method `{method}` does not fit {backbone}: {reason}")]
    Unfit {
        /// The method.
        method: String,
        /// The backbone.
        backbone: String,
        /// Why.
        reason: String,
    },
    /// A method cannot be merged into the frozen weights.
    #[error("`{name}` cannot be merged: {reason}")]
    Unmergeable {
        /// The site or tensor.
        name: String,
        /// Why.
        reason: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// A hint for a name that is not known: the nearest one, or all of them where none is near.
pub fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const NEAR: f64 = 0.6;
    let known: Vec<&str> = known.collect();
    let nearness = |other: &&str| strsim::jaro_winkler(name, other);
    match known.iter().copied().max_by(|a, b| nearness(a).total_cmp(&nearness(b))) {
        Some(best) if nearness(&best) > NEAR => format!("did you mean `{best}`?"),
        _ => format!("known are {}", known.join(", ")),
    }
}

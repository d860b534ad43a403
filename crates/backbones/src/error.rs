//! Errors of models and their published files.

use std::path::PathBuf;

/// An error of this crate; each variant names what caused it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A GGUF file is truncated or malformed.
    #[error("{path} is not a usable GGUF file: {reason}")]
    MalformedGguf {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A published configuration is not supported.
    #[error("{path} is not a supported configuration: {reason}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A shard of the weights is missing.
    #[error("{shard} is missing; according to {index} it contains `{tensor}`")]
    MissingShard {
        /// The missing file.
        shard: PathBuf,
        /// The index file.
        index: PathBuf,
        /// A tensor in the shard.
        tensor: String,
    },
    /// The numbers of image tokens in the texts and of image features differ.
    #[error("the texts have {image_tokens} image tokens, but their images have {features} features")]
    ImageTokenCount {
        /// Image tokens in the texts.
        image_tokens: i64,
        /// Features of the images.
        features: i64,
    },
    /// No backbone of that name.
    #[error("there is no backbone `{name}`; {hint}")]
    UnknownBackbone {
        /// The requested name.
        name: String,
        /// The nearest name.
        hint: String,
    },
    /// The weights of a backbone are missing.
    #[error("cannot find the weights of `{backbone}`; searched for {place}")]
    MissingWeights {
        /// The backbone.
        backbone: String,
        /// The places searched.
        place: String,
    },
    /// An image size that a backbone does not support.
    #[error("{backbone} does not support images of {size} px: {reason}")]
    ImageSize {
        /// The backbone.
        backbone: String,
        /// The size.
        size: i64,
        /// The cause.
        reason: String,
    },
    /// A model cannot be exported to a published format.
    #[error("this model cannot be exported: {reason}")]
    Unexportable {
        /// The cause.
        reason: String,
    },
    /// A configuration cannot be written.
    #[error("cannot serialise the configuration as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An error of sites, weights or methods.
    #[error(transparent)]
    Core(#[from] san_core::Error),
    /// An error from libtorch.
    #[error("libtorch error: {0}")]
    Torch(#[from] tch::TchError),
}

//! Rotary position embedding (arXiv 2104.09864) in Hugging Face's form: a head's channels are split into
//! halves, and channel i is rotated with channel i + d/2. LLaMA-3's frequency scaling follows
//! `transformers/modeling_rope_utils.py`.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// `rope_scaling` of a published configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum Scaling {
    /// No scaling.
    Default {},
    /// Low frequencies are reduced for a longer context (LLaMA 3.1 and later).
    Llama3 {
        /// Scaling factor.
        factor: f64,
        /// Wavelengths above the original context length divided by this are scaled.
        low_freq_factor: f64,
        /// Wavelengths below the original context length divided by this are unchanged.
        high_freq_factor: f64,
        /// Original context length.
        original_max_position_embeddings: f64,
    },
}

impl Scaling {
    /// Checks beyond the types; the error is a clause that completes a message.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } =
            *self
        else {
            return Ok(());
        };
        for (field, value) in [
            ("factor", factor),
            ("low_freq_factor", low_freq_factor),
            ("high_freq_factor", high_freq_factor),
            ("original_max_position_embeddings", original_max_position_embeddings),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!(
                    "`{field}` of `rope_scaling` is {value}; expected a finite number above 0"
                ));
            }
        }
        if high_freq_factor <= low_freq_factor {
            return Err(format!(
                "`high_freq_factor` of `rope_scaling` is {high_freq_factor}, which is not above `low_freq_factor`, {low_freq_factor}"
            ));
        }
        Ok(())
    }
}

/// The rotation angle of each channel pair per position.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
}

impl Rope {
    /// For heads with `width` channels.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn new(width: i64, theta: f64, scaling: Option<&Scaling>) -> Self {
        let unscaled = (0..width / 2).map(|pair| theta.powf(-2.0 * pair as f64 / width as f64));
        Self { frequencies: unscaled.map(|frequency| scaled(frequency, scaling)).collect() }
    }

    /// Cosines and sines `[..., width]` of `positions` `[...]`, computed in f64 and stored in `kind`.
    pub(crate) fn rotations(&self, positions: &Tensor, kind: Kind) -> (Tensor, Tensor) {
        let frequencies = Tensor::from_slice(&self.frequencies).to_device(positions.device());
        // In f64: at position 100,000 an f32 angle has lost its third digit.
        let angles = positions.to_kind(Kind::Double).unsqueeze(-1) * frequencies;
        let angles = Tensor::cat(&[&angles, &angles], -1);
        (angles.cos().to_kind(kind), angles.sin().to_kind(kind))
    }
}

/// Scales each frequency as in transformers' `_compute_llama3_parameters`.
fn scaled(frequency: f64, scaling: Option<&Scaling>) -> f64 {
    let Some(Scaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: context,
    }) = scaling
    else {
        return frequency;
    };
    let wavelength = 2.0 * std::f64::consts::PI / frequency;
    if wavelength < context / high_freq_factor {
        frequency
    } else if wavelength > context / low_freq_factor {
        frequency / factor
    } else {
        let smooth = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// Rotates queries or keys `[batch, heads, tokens, width]`; cosines and sines are `[batch or 1, tokens,
/// width]`.
pub(crate) fn rotate(x: &Tensor, (cosines, sines): &(Tensor, Tensor)) -> Tensor {
    let half = x.size()[3] / 2;
    let rotated_half = Tensor::cat(&[&-x.narrow(3, half, half), &x.narrow(3, 0, half)], 3);
    x * cosines.unsqueeze(1) + rotated_half * sines.unsqueeze(1)
}

/// Positions `from..from + count`, `[1, count]`.
pub(crate) fn consecutive(from: i64, count: i64, device: Device) -> Tensor {
    Tensor::arange_start(from, from + count, (Kind::Int64, device)).unsqueeze(0)
}

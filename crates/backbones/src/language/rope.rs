//! Rotary position embedding (arXiv 2104.09864) in Hugging Face's form: the channels of a head are two
//! halves, channel i turns with channel i + d/2. LLaMA-3's scaling of the frequencies as in
//! `transformers/modeling_rope_utils.py`.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// `rope_scaling` of a published configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum Scaling {
    /// None.
    Default {},
    /// Low frequencies are slowed for a longer context (LLaMA 3.1 and later).
    Llama3 {
        /// By how much.
        factor: f64,
        /// Waves longer than the old context over this are slowed.
        low_freq_factor: f64,
        /// Waves shorter than the old context over this are left alone.
        high_freq_factor: f64,
        /// Length of the context before.
        original_max_position_embeddings: f64,
    },
}

impl Scaling {
    /// What the types cannot say; the reason is a clause.
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
                    "`{field}` of `rope_scaling` is {value}; a finite number above 0 is wanted"
                ));
            }
        }
        if high_freq_factor <= low_freq_factor {
            return Err(format!(
                "`high_freq_factor` of `rope_scaling` is {high_freq_factor}, not above `low_freq_factor`, {low_freq_factor}"
            ));
        }
        Ok(())
    }
}

/// The angle that each pair of channels turns by from one position to the next.
#[derive(Debug)]
pub struct Rope {
    frequencies: Vec<f64>,
}

impl Rope {
    /// For heads of `width` channels.
    #[allow(clippy::cast_precision_loss)]
    pub fn new(width: i64, theta: f64, scaling: Option<&Scaling>) -> Self {
        let plain = (0..width / 2).map(|pair| theta.powf(-2.0 * pair as f64 / width as f64));
        Self { frequencies: plain.map(|frequency| scaled(frequency, scaling)).collect() }
    }

    /// Cosines and sines `[..., width]` of `positions` `[...]`, in f32 for every `kind` but f64.
    pub fn turns(&self, positions: &Tensor, kind: Kind) -> (Tensor, Tensor) {
        let kind = if kind == Kind::Double { kind } else { Kind::Float };
        let frequencies = Tensor::from_slice(&self.frequencies).to_device(positions.device());
        // In f64: at position 100,000 an angle in f32 has lost its third digit.
        let angles = positions.to_kind(Kind::Double).unsqueeze(-1) * frequencies;
        let angles = Tensor::cat(&[&angles, &angles], -1);
        (angles.cos().to_kind(kind), angles.sin().to_kind(kind))
    }
}

/// Frequency by frequency, as transformers' `_compute_llama3_parameters`.
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

/// Queries or keys `[batch, heads, tokens, width]`, turned; cosines and sines `[batch or 1, tokens, width]`.
pub fn turn(x: &Tensor, (cosines, sines): &(Tensor, Tensor)) -> Tensor {
    let half = x.size()[3] / 2;
    let swapped = Tensor::cat(&[&-x.narrow(3, half, half), &x.narrow(3, 0, half)], 3);
    x * cosines.unsqueeze(1) + swapped * sines.unsqueeze(1)
}

/// Positions `from..from + count`, `[1, count]`.
pub fn consecutive(from: i64, count: i64, device: Device) -> Tensor {
    Tensor::arange_start(from, from + count, (Kind::Int64, device)).unsqueeze(0)
}

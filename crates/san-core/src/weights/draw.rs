//! Initial values of tensors: random values that depend only on (seed, name), or copies of frozen weights.

use rand_distr::{Distribution, StandardNormal, Uniform};
use tch::{Device, Kind, Tensor};

use crate::spec::init::{Factor, FrozenRows, Init};
use crate::spec::trainable::TrainableSpec;
use crate::{Error, Weights, random};

impl FrozenRows {
    /// `[length, inputs]`.
    ///
    /// # Errors
    /// If there is no such weight.
    pub(crate) fn slice(&self, weights: &Weights) -> Result<Tensor, Error> {
        let weight = weights.get(&self.weight)?.f_flatten(1, -1)?;
        Ok(weight.f_narrow(0, self.start, self.length)?)
    }
}

/// Initial value of one run's tensor, f32, on the CPU; depends only on (seed, name) and the frozen weights.
///
/// # Errors
/// If a frozen tensor to copy is missing or has another shape.
pub fn initial(spec: &TrainableSpec, seed: u64, weights: &Weights) -> Result<Tensor, Error> {
    let shape = spec.shape.as_slice();
    let mut generator = random::generator(seed, &spec.name);
    let count = spec.count();
    let mut draw = |one: &mut dyn FnMut(&mut rand_chacha::ChaCha8Rng) -> f64| {
        #[allow(clippy::cast_possible_truncation)]
        let values: Vec<f32> = (0..count).map(|_| one(&mut generator) as f32).collect();
        Tensor::from_slice(&values).f_view(shape)
    };
    let options = (Kind::Float, Device::Cpu);
    Ok(match &spec.init {
        Init::Zeros => Tensor::f_zeros(shape, options)?,
        Init::Ones => Tensor::f_ones(shape, options)?,
        Init::Normal { mean, deviation } => draw(&mut |random| mean + deviation * standard_normal(random))?,
        Init::TruncatedNormal { deviation } => draw(&mut |random| {
            loop {
                let value = deviation * standard_normal(random);
                if value.abs() <= 2.0 {
                    break value;
                }
            }
        })?,
        #[allow(clippy::cast_precision_loss)]
        Init::KaimingUniform { inputs } => {
            let uniform = symmetric(1.0 / (*inputs as f64).sqrt(), &spec.name)?;
            draw(&mut |random| uniform.sample(random))?
        }
        Init::Uniform { bound } => {
            let uniform = symmetric(*bound, &spec.name)?;
            draw(&mut |random| uniform.sample(random))?
        }
        Init::RowNorms(rows) => on_cpu(&rows.slice(weights)?)?.f_norm_scalaropt_dim(2, [1], false)?,
        Init::Principal { rows, rank, factor, scale } => {
            let (u, s, v) = on_cpu(&rows.slice(weights)?)?.f_svd(true, true)?;
            let root = s.f_narrow(0, 0, *rank)?.f_sqrt()?.f_mul_scalar(*scale)?;
            match factor {
                Factor::Left => u.f_narrow(1, 0, *rank)?.f_mul(&root)?,
                Factor::Right => v.f_narrow(1, 0, *rank)?.f_mul(&root)?.f_transpose(0, 1)?.f_contiguous()?,
            }
        }
        Init::Frozen(name) => {
            let frozen = weights.get(name)?;
            if frozen.size() != shape {
                return Err(Error::WrongShape {
                    name: name.clone(),
                    place: "the frozen weights".into(),
                    found: frozen.size(),
                    expected: shape.to_vec(),
                });
            }
            on_cpu(frozen)?
        }
    })
}

fn on_cpu(tensor: &Tensor) -> Result<Tensor, Error> {
    Ok(tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?)
}

fn symmetric(bound: f64, name: &str) -> Result<Uniform<f64>, Error> {
    Uniform::new(-bound, bound).map_err(|_| Error::BadOption {
        method: name.into(),
        reason: "a projection must have at least one input".into(),
    })
}

fn standard_normal(random: &mut rand_chacha::ChaCha8Rng) -> f64 {
    StandardNormal.sample(random)
}

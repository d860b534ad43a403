//! Dropout on the input of a method's side path (arXiv 1207.0580; peft's `lora_dropout`).

use std::rc::Rc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::nn::pass::Pass;

/// Number of values that a random element can take: 16 bits each, to keep masks small.
const LEVELS: f64 = 65536.0;

/// Zeroes each element with the same probability during training and rescales the rest.
#[derive(Debug)]
pub struct Dropout {
    path: String,
    /// How many of the [`LEVELS`] random values drop an element.
    dropped: f64,
    pass: Rc<Pass>,
}

impl Dropout {
    /// `path` is a path in the model; `rate` is in [0, 1) and rounded to a multiple of 2^-16, capped at 1 -
    /// 2^-16.
    pub fn new(path: String, rate: f64, pass: Rc<Pass>) -> Self {
        Self { path, dropped: (rate * LEVELS).round().min(LEVELS - 1.0), pass }
    }

    /// `x` `[K * batch, ...]` with dropout applied; `None` if nothing is dropped.
    pub fn apply(&self, x: &Tensor) -> Option<Tensor> {
        if self.dropped == 0.0 {
            return None;
        }
        let generators = self.pass.generators(&self.path)?;
        let bits = if x.device() == Device::Cpu {
            random_bits_on_cpu(generators, x)
        } else {
            random_bits_on_device(generators, x)
        };
        // Signed 16-bit values start at -32,768.
        let kept = bits.ge(self.dropped - LEVELS / 2.0).to_kind(x.kind());
        Some(x * kept * (LEVELS / (LEVELS - self.dropped)))
    }
}

/// 16 random bits for each element of `x` `[K * batch, ...]`, from K generators, on the CPU.
fn random_bits_on_cpu(mut generators: Vec<ChaCha8Rng>, x: &Tensor) -> Tensor {
    let mut bytes = vec![0; 2 * x.numel()];
    let each = bytes.len() / generators.len().max(1);
    for (run, generator) in bytes.chunks_mut(each.max(1)).zip(&mut generators) {
        generator.fill_bytes(run);
    }
    Tensor::from_data_size(&bytes, &x.size(), Kind::Int16)
}

/// The same on the device of `x`, whose own generator is seeded from each of these generators: generating half a gigabyte
/// per step on the CPU and copying it would take longer than the step itself.
fn random_bits_on_device(generators: Vec<ChaCha8Rng>, x: &Tensor) -> Tensor {
    let mut shape = x.size();
    shape[0] /= generators.len().max(1) as i64;
    let runs: Vec<Tensor> = generators
        .into_iter()
        .map(|mut generator| {
            tch::manual_seed(generator.next_u64().cast_signed());
            Tensor::randint_low(-0x8000, 0x8000, shape.as_slice(), (Kind::Int16, x.device()))
        })
        .collect();
    Tensor::cat(&runs, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_training_elements_are_dropped_at_the_rate_depending_on_seed_path_and_step() {
        let pass = Rc::new(Pass::new(vec![3, 4]));
        let x = Tensor::ones([2, 100_000], (Kind::Float, Device::Cpu));
        let at = |path: &str, step| {
            let dropout = Dropout::new(path.into(), 0.2, pass.clone());
            pass.training(step, || dropout.apply(&x)).unwrap()
        };
        let first = at("q", 7);
        assert_eq!(first, at("q", 7));
        assert_ne!(first, at("q", 8));
        assert_ne!(first, at("k", 7));
        assert_ne!(first.get(0), first.get(1));
        let dropout = Dropout::new("q".into(), 0.2, pass.clone());
        let second = pass.training(7, || {
            pass.set_micro_batch(1);
            dropout.apply(&x)
        });
        assert_ne!(Some(first.shallow_clone()), second);
        let [zeros, mean] =
            [first.eq(0.0).to_kind(Kind::Float), first].map(|values| values.mean(None).double_value(&[]));
        assert!((zeros - 0.2).abs() < 0.005, "{zeros}");
        assert!((mean - 1.0).abs() < 0.005, "{mean}");
        assert!(dropout.apply(&x).is_none());
        let nearly_all = Dropout::new("q".into(), 1.0 - 1e-9, pass.clone());
        let rest = pass.training(7, || nearly_all.apply(&x)).unwrap();
        assert!(rest.isfinite().all().int64_value(&[]) == 1);
    }

    #[test]
    fn a_device_uses_the_same_seeds_and_gives_each_run_the_bits_it_would_get_alone() {
        let bits = |seeds: &[u64]| {
            let pass = Pass::new(seeds.to_vec());
            let x = Tensor::ones([2 * seeds.len() as i64, 50_000], (Kind::Float, Device::Cpu));
            pass.training(5, || pass.generators("q"))
                .map(|generators| random_bits_on_device(generators, &x))
                .unwrap()
        };
        let both = bits(&[3, 4]);
        assert_eq!(both, bits(&[3, 4]));
        assert_eq!(both.narrow(0, 2, 2), bits(&[4]));
        assert_ne!(both.narrow(0, 0, 2), both.narrow(0, 2, 2));
        let below = both.lt(-0x4000).to_kind(Kind::Float).mean(None).double_value(&[]);
        assert!((below - 0.25).abs() < 0.01, "{below}");
        let (min, max) = (both.min().int64_value(&[]), both.max().int64_value(&[]));
        assert!(min < -0x7f00 && max > 0x7f00, "{min} to {max}");
    }
}

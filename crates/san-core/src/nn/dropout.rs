//! Dropout on the input of a method's side path (arXiv 1207.0580; peft's `lora_dropout`).

use std::rc::Rc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::nn::pass::Pass;

/// Number of values a random element can take: 16 bits each, to keep masks small.
const NUMBERS: f64 = 65536.0;

/// Zeroes each element with the same probability during training and rescales the rest.
#[derive(Debug)]
pub struct Dropout {
    place: String,
    /// How many of the [`NUMBERS`] random values drop an element.
    dropped: f64,
    pass: Rc<Pass>,
}

impl Dropout {
    /// `place` is a path in the model; `rate` is in [0, 1) and rounded to a multiple of 2^-16, capped at 1 -
    /// 2^-16.
    pub fn new(place: String, rate: f64, pass: Rc<Pass>) -> Self {
        Self { place, dropped: (rate * NUMBERS).round().min(NUMBERS - 1.0), pass }
    }

    /// `x` `[K * batch, ...]` with dropout applied; `None` if nothing is dropped.
    pub fn apply(&self, x: &Tensor) -> Option<Tensor> {
        if self.dropped == 0.0 {
            return None;
        }
        let generators = self.pass.generators(&self.place)?;
        let drawn =
            if x.device() == Device::Cpu { drawn_here(generators, x) } else { drawn_there(generators, x) };
        // Signed 16-bit values start at -32,768.
        let kept = drawn.ge(self.dropped - NUMBERS / 2.0).to_kind(x.kind());
        Some(x * kept * (NUMBERS / (NUMBERS - self.dropped)))
    }
}

/// 16 random bits for each element of `x` `[K * batch, ...]`, from K generators, on the CPU.
fn drawn_here(mut generators: Vec<ChaCha8Rng>, x: &Tensor) -> Tensor {
    let mut bytes = vec![0; 2 * x.numel()];
    let each = bytes.len() / generators.len().max(1);
    for (run, generator) in bytes.chunks_mut(each.max(1)).zip(&mut generators) {
        generator.fill_bytes(run);
    }
    Tensor::from_data_size(&bytes, &x.size(), Kind::Int16)
}

/// The same on the device of `x`, whose own generator is seeded from each of ours: generating half a gigabyte
/// per step on the CPU and copying it would take longer than the step itself.
fn drawn_there(generators: Vec<ChaCha8Rng>, x: &Tensor) -> Tensor {
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
    fn elements_are_dropped_in_training_at_the_rate_by_seed_place_and_step() {
        let pass = Rc::new(Pass::new(vec![3, 4]));
        let x = Tensor::ones([2, 100_000], (Kind::Float, Device::Cpu));
        let at = |place: &str, step| {
            let dropout = Dropout::new(place.into(), 0.2, pass.clone());
            pass.training(step, || dropout.apply(&x)).unwrap()
        };
        let first = at("q", 7);
        assert_eq!(first, at("q", 7));
        assert_ne!(first, at("q", 8));
        assert_ne!(first, at("k", 7));
        assert_ne!(first.get(0), first.get(1));
        let dropout = Dropout::new("q".into(), 0.2, pass.clone());
        let second = pass.training(7, || {
            pass.goes_on_with(1);
            dropout.apply(&x)
        });
        assert_ne!(Some(first.shallow_clone()), second);
        let [zeros, mean] =
            [first.eq(0.0).to_kind(Kind::Float), first].map(|values| values.mean(None).double_value(&[]));
        assert!((zeros - 0.2).abs() < 0.005, "{zeros}");
        assert!((mean - 1.0).abs() < 0.005, "{mean}");
        assert!(dropout.apply(&x).is_none());
        let nearly_all = Dropout::new("q".into(), 1.0 - 1e-9, pass.clone());
        let left = pass.training(7, || nearly_all.apply(&x)).unwrap();
        assert!(left.isfinite().all().int64_value(&[]) == 1);
    }

    #[test]
    fn a_device_draws_by_the_same_seeds_and_for_each_run_as_if_alone() {
        let drawn = |seeds: &[u64]| {
            let pass = Pass::new(seeds.to_vec());
            let x = Tensor::ones([2 * seeds.len() as i64, 50_000], (Kind::Float, Device::Cpu));
            pass.training(5, || pass.generators("q")).map(|generators| drawn_there(generators, &x)).unwrap()
        };
        let both = drawn(&[3, 4]);
        assert_eq!(both, drawn(&[3, 4]));
        assert_eq!(both.narrow(0, 2, 2), drawn(&[4]));
        assert_ne!(both.narrow(0, 0, 2), both.narrow(0, 2, 2));
        let below = both.lt(-0x4000).to_kind(Kind::Float).mean(None).double_value(&[]);
        assert!((below - 0.25).abs() < 0.01, "{below}");
        let (least, most) = (both.min().int64_value(&[]), both.max().int64_value(&[]));
        assert!(least < -0x7f00 && most > 0x7f00, "{least} to {most}");
    }
}

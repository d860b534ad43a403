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

    /// Whether elements are dropped now.
    pub fn is_active(&self) -> bool {
        self.dropped != 0.0 && self.pass.is_training()
    }

    /// `x` `[K * batch, ...]` with dropout applied; `None` if nothing is dropped.
    pub fn apply(&self, x: &Tensor) -> Option<Tensor> {
        if !self.is_active() {
            return None;
        }
        let generators = self.pass.generators(&self.path)?;
        let draw = if x.device() == Device::Cpu { random_bits_on_cpu } else { random_bits_on_device };
        let shapes = self.pass.own_shapes(x);
        let whole = [&[x.size()[0] / shapes.len() as i64], &x.size()[1..]].concat();
        let bits: Vec<Tensor> = (generators.into_iter().zip(&shapes))
            .map(|(generator, shape)| padded(draw(generator, shape, x.device()), &whole))
            .collect();
        // Signed 16-bit values start at -32,768.
        let kept = Tensor::cat(&bits, 0).ge(self.dropped - LEVELS / 2.0).to_kind(x.kind());
        Some(x * kept * (LEVELS / (LEVELS - self.dropped)))
    }
}

/// Pads a run's own part `[sequences, tokens, channels]` with zeros to that of the whole stack.
fn padded(bits: Tensor, whole: &[i64]) -> Tensor {
    let own = bits.size();
    if own == whole {
        return bits;
    }
    bits.constant_pad_nd([0, 0, 0, whole[1] - own[1], 0, whole[0] - own[0]])
}

/// 16 random bits for each element of one run's activations, on the CPU.
fn random_bits_on_cpu(mut generator: ChaCha8Rng, shape: &[i64], _: Device) -> Tensor {
    let count = shape.iter().product::<i64>().unsigned_abs();
    let mut bytes = vec![0; 2 * usize::try_from(count).unwrap_or(0)];
    generator.fill_bytes(&mut bytes);
    Tensor::from_data_size(&bytes, shape, Kind::Int16)
}

/// The same on a device, whose own generator is seeded from this one: generating half a gigabyte per step on the CPU
/// and copying it would take longer than the step itself.
fn random_bits_on_device(mut generator: ChaCha8Rng, shape: &[i64], device: Device) -> Tensor {
    tch::manual_seed(generator.next_u64().cast_signed());
    Tensor::randint_low(-0x8000, 0x8000, shape, (Kind::Int16, device))
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
            let draw = |generator| random_bits_on_device(generator, &[2, 50_000], Device::Cpu);
            let runs = pass.training(5, || pass.generators("q")).unwrap();
            Tensor::cat(&runs.into_iter().map(draw).collect::<Vec<_>>(), 0)
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

    #[test]
    fn a_run_that_is_padded_in_a_stack_gets_the_mask_that_it_gets_alone() {
        let mask = |seeds: &[u64], shape: &[i64], extents: Option<Vec<[i64; 2]>>| {
            let pass = Rc::new(Pass::new(seeds.to_vec()));
            let dropout = Dropout::new("q".into(), 0.5, pass.clone());
            pass.training(1, || {
                pass.set_extents(extents);
                dropout.apply(&Tensor::ones(shape, (Kind::Float, Device::Cpu)))
            })
            .unwrap()
        };
        let stacked = mask(&[3, 4], &[6, 5, 20], Some(vec![[3, 4], [2, 5]]));
        assert_eq!(stacked.narrow(0, 0, 3).narrow(1, 0, 4), mask(&[3], &[3, 4, 20], None));
        assert_eq!(stacked.narrow(0, 3, 2), mask(&[4], &[2, 5, 20], None));
    }
}

//! Dropout of what a method reads beside a projection (arXiv 1207.0580; peft's `lora_dropout`).

use std::rc::Rc;

use rand::Rng;
use tch::{Kind, Tensor};

use crate::pass::Pass;

/// Numbers that a mask is drawn from: 16 bits an element, for there are many.
const NUMBERS: f64 = 65536.0;

/// Leaves elements out in training, each with the same probability, and scales the others up.
#[derive(Debug)]
pub struct Dropout {
    place: String,
    /// The numbers, of all [`NUMBERS`], that an element is left out for.
    dropped: f64,
    pass: Rc<Pass>,
}

impl Dropout {
    /// At a place of the model; `rate` from 0, below 1, in steps of 2^-16, of which one at least is kept.
    pub fn new(place: String, rate: f64, pass: Rc<Pass>) -> Self {
        Self { place, dropped: (rate * NUMBERS).round().min(NUMBERS - 1.0), pass }
    }

    /// `x` `[K * batch, ...]` with elements left out; none where nothing is.
    pub fn apply(&self, x: &Tensor) -> Option<Tensor> {
        if self.dropped == 0.0 {
            return None;
        }
        let mut generators = self.pass.generators(&self.place)?;
        let mut bytes = vec![0; 2 * x.numel()];
        let each = bytes.len() / generators.len().max(1);
        for (run, generator) in bytes.chunks_mut(each.max(1)).zip(&mut generators) {
            generator.fill_bytes(run);
        }
        let drawn = Tensor::from_data_size(&bytes, &x.size(), Kind::Int16).to_device(x.device());
        // 16 bits with a sign: from -32,768.
        let kept = drawn.ge(self.dropped - NUMBERS / 2.0).to_kind(x.kind());
        Some(x * kept * (NUMBERS / (NUMBERS - self.dropped)))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

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
}

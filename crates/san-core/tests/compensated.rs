//! AdamW in bf16 against AdamW in f32, which `optimiser.rs` compares with torch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use san_core::spec::init::Init;
use san_core::spec::trainable::{Group, TrainableSpec};
use san_core::train::adamw::{AdamW, AdamWSettings};
use san_core::train::compensated::{CompensatedAdamW, UpdateNumbers};
use san_core::{Trainables, Weights};
use tch::{Device, Kind, Tensor, no_grad};

const CPU: Device = Device::Cpu;

/// The elements over which rounding averages out.
const ELEMENTS: i64 = 1 << 14;

/// The same matrix of ones, or vector if it is not decayed, in f32 and in bf16 with their optimisers.
struct Both {
    flat: (Trainables, AdamW),
    compensated: (Trainables, CompensatedAdamW),
    steps: u64,
}

impl Both {
    fn new(shape: &[i64], settings: AdamWSettings) -> Self {
        let allocate = |kind| {
            let spec = TrainableSpec {
                name: "x".into(),
                shape: shape.to_vec(),
                init: Init::Ones,
                group: Group::Method,
            };
            Trainables::allocate_in(vec![spec], &[0], &Weights::default(), (kind, CPU)).unwrap()
        };
        let (flat, narrow) = (allocate(Kind::Float), allocate(Kind::BFloat16));
        let optimisers = (AdamW::new(&flat, settings), CompensatedAdamW::new(&narrow, settings));
        let (one, other) = (optimisers.0.unwrap(), optimisers.1.unwrap());
        Self { flat: (flat, one), compensated: (narrow, other), steps: 0 }
    }

    /// A step of both with a gradient that bf16 represents, multiplied by `factor`.
    fn step(&mut self, gradient: &Tensor, rate: f64, factor: Option<f64>) {
        self.steps += 1;
        let gradient = gradient.to_kind(Kind::BFloat16);
        let wide = gradient.to_kind(Kind::Float).view([1, -1]) * factor.unwrap_or(1.0);
        let scalar = |number: f64| Tensor::from(number as f32);
        let rate = scalar(rate);
        self.flat.1.step(&self.flat.0, &wide, &rate.view([1, 1]), None).unwrap();
        let factor = factor.map(scalar);
        let stopped = Tensor::from(false);
        let numbers =
            UpdateNumbers { step: self.steps, rate: &rate, stopped: &stopped, factor: factor.as_ref() };
        self.compensated.1.update(&self.compensated.0, 0, &gradient, &numbers).unwrap();
    }

    /// First and second moments of both.
    fn moments(&self) -> [[Tensor; 2]; 2] {
        let ((first, second), state) = (self.flat.1.moments(), self.compensated.1.state());
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Float);
        [[wide(first), wide(state[0].1)], [wide(second), wide(state[1].1)]]
    }

    /// The values of both; those in bf16 with and without compensation.
    fn values(&self) -> [Tensor; 3] {
        let narrow = self.compensated.0.values().to_kind(Kind::Float);
        let [_, _, (name, compensation)] = self.compensated.1.state();
        assert_eq!(name, "compensation");
        [self.flat.0.values().shallow_clone(), &narrow + compensation, narrow]
    }
}

fn mean(tensor: &Tensor) -> f64 {
    f64::try_from(tensor.to_kind(Kind::Double).mean(None)).unwrap()
}

fn farthest(one: &Tensor, other: &Tensor) -> f64 {
    f64::try_from((one - other).abs().max()).unwrap()
}

#[test]
fn moments_follow_those_in_f32_where_rounding_to_nearest_would_stall() {
    let mut both = Both::new(&[ELEMENTS], AdamWSettings::default());
    tch::manual_seed(3);
    let mut nearest = Tensor::zeros([ELEMENTS], (Kind::BFloat16, CPU));
    let mut compare = |both: &mut Both, steps: u64, scale: f64| {
        for _ in 0..steps {
            let gradient = (Tensor::randn([ELEMENTS], (Kind::Float, CPU)) * scale).to_kind(Kind::BFloat16);
            both.step(&gradient, 1e-4, None);
            let square = gradient.to_kind(Kind::Float).square();
            let next = nearest.to_kind(Kind::Float) * 0.999 + square * 0.001;
            nearest.copy_(&next.to_kind(Kind::BFloat16));
        }
        let [[_, _], [expected, found]] = both.moments();
        let relative = ((&found - &expected) / &expected).square();
        (mean(&found) / mean(&expected), mean(&relative).sqrt(), mean(&nearest) / mean(&expected))
    };
    let (mean_ratio, deviation, nearest_ratio) = compare(&mut both, 1500, 1.0);
    println!("growing: mean {mean_ratio:.4}, deviation {deviation:.4}, to nearest {nearest_ratio:.3}");
    assert!((mean_ratio - 1.0).abs() < 0.003, "{mean_ratio}");
    assert!(deviation < 0.05, "{deviation}");
    let (mean_ratio, deviation, nearest_ratio) = compare(&mut both, 1500, 0.1);
    println!("decaying: mean {mean_ratio:.4}, deviation {deviation:.4}, to nearest {nearest_ratio:.3}");
    assert!((mean_ratio - 1.0).abs() < 0.005, "{mean_ratio}");
    assert!(deviation < 0.1, "{deviation}");
    assert!(nearest_ratio > 1.5, "a moment rounded to nearest is {nearest_ratio} of the right one");
    let [[expected, found], _] = both.moments();
    let relative = f64::try_from((&found - &expected).norm() / expected.norm()).unwrap();
    assert!(relative < 0.01, "{relative}");
}

#[test]
fn updates_below_the_resolution_of_bf16_add_up() {
    // The first rate is 1.3 steps of the compensation, the second a quarter of one.
    for rate in [1e-5, 2e-6] {
        let mut both = Both::new(&[ELEMENTS], AdamWSettings::default());
        for _ in 0..200 {
            both.step(&Tensor::ones([ELEMENTS], (Kind::Float, CPU)), rate, None);
        }
        let [expected, found, values] = both.values();
        assert!((mean(&expected) - (1.0 - 200.0 * rate)).abs() < 1e-5);
        assert!((mean(&expected) - mean(&found)).abs() < 5e-6, "{} {}", mean(&expected), mean(&found));
        assert!(farthest(&expected, &found) < 3e-4);
        assert!(farthest(&found, &values) < 0.004, "the compensation is below a step of bf16");
    }
}

#[test]
fn a_step_is_that_of_adamw_with_decay_epsilon_and_clipping() {
    let settings = AdamWSettings { weight_decay: 0.1, epsilon: 1e-2, beta1: 0.8, beta2: 0.95 };
    for shape in [&[40, 50][..], &[2000]] {
        let mut both = Both::new(shape, settings);
        tch::manual_seed(5);
        for _ in 0..20 {
            both.step(&Tensor::randn(shape, (Kind::Float, CPU)), 0.01, Some(0.25));
        }
        let [expected, found, _] = both.values();
        // 20 steps of at most 0.01, whose moments have 8 bits.
        assert!(farthest(&expected, &found) < 2e-3, "{}", farthest(&expected, &found));
        assert!((mean(&expected) - mean(&found)).abs() < 3e-5);
        assert_eq!((mean(&expected) < 0.99), shape.len() == 2, "only matrices are decayed");
    }
}

#[test]
fn a_tensor_larger_than_a_chunk_is_updated_to_its_end() {
    let length = (1 << 23) + 3;
    let mut both = Both::new(&[length], AdamWSettings::default());
    both.step(&Tensor::ones([length], (Kind::Float, CPU)), 0.5, None);
    let [expected, found, _] = both.values();
    assert!(farthest(&expected, &found) < 1e-4);
}

#[test]
fn a_stopped_run_keeps_its_bytes() {
    let mut both = Both::new(&[8], AdamWSettings::default());
    both.step(&Tensor::ones([8], (Kind::Float, CPU)), 0.1, None);
    let bytes = |both: &Both| {
        let state = both.compensated.1.state().map(|(_, tensor)| tensor.copy());
        (state, both.compensated.0.values().copy())
    };
    let before = bytes(&both);
    let (rate, stopped) = (Tensor::from(0.1_f32), Tensor::from(true));
    let numbers = UpdateNumbers { step: 2, rate: &rate, stopped: &stopped, factor: None };
    let gradient = Tensor::full([8], f64::NAN, (Kind::BFloat16, CPU));
    both.compensated.1.update(&both.compensated.0, 0, &gradient, &numbers).unwrap();
    assert_eq!(bytes(&both), before);
}

#[test]
fn a_trained_number_takes_eight_bytes() {
    let spec = |name: &str, shape: &[i64]| TrainableSpec {
        name: name.into(),
        shape: shape.to_vec(),
        init: Init::Ones,
        group: Group::Backbone,
    };
    let specs = vec![spec("a", &[30, 40]), spec("b", &[7])];
    let options = (Kind::BFloat16, CPU);
    let trainables = Trainables::allocate_in(specs, &[0], &Weights::default(), options).unwrap();
    let optimiser = CompensatedAdamW::new(&trainables, AdamWSettings::default()).unwrap();
    let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
    let state: usize = optimiser.state().iter().map(|(_, tensor)| bytes(tensor)).sum();
    assert_eq!(state + bytes(trainables.values()), 8 * 1207);
    let leaf = trainables.get("a").unwrap();
    let _ = no_grad(|| trainables.values().shallow_clone().fill_(3.0));
    assert_eq!(mean(&leaf), 3.0, "the tensors of the model are views of the buffer, not copies");
}

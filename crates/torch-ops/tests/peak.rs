//! The peak of allocated bytes is exact: temporaries and activations that autograd keeps are in it, freed tensors are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tch::{Device, Kind, Tensor};
use torch_ops::PeakMemory;

const ELEMENTS: i64 = 1 << 20;
const BYTES: u64 = 4 << 20;

fn ones() -> Tensor {
    Tensor::ones([ELEMENTS], (Kind::Float, Device::Cpu))
}

/// In whole tensors; small ones are not counted.
fn tensors(peak: &PeakMemory) -> u64 {
    peak.bytes() / BYTES
}

#[test]
fn the_peak_counts_what_is_in_use_at_once() {
    let before = ones();
    let peak = PeakMemory::start();
    assert_eq!(tensors(&peak), 0);
    drop(ones());
    drop(ones());
    assert_eq!(tensors(&peak), 1, "the first was freed before the second was allocated");
    let two = (ones(), ones());
    assert_eq!(tensors(&peak), 2);
    drop((before, two));
    assert_eq!(tensors(&peak), 2);
}

#[test]
fn what_autograd_keeps_and_the_backward_pass_allocates_is_counted() {
    let x = ones().set_requires_grad(true);
    let peak = PeakMemory::start();
    let loss = x.exp().exp().sum(Kind::Float);
    assert_eq!(tensors(&peak), 2, "each exponential keeps its result");
    let gradients = Tensor::run_backward(&[&loss], &[&x], false, false);
    assert_eq!(tensors(&peak), 3, "a gradient replaces a result");
    assert_eq!(gradients[0].size(), [ELEMENTS]);
}

#[test]
fn an_inner_measurement_ends_before_the_outer_one() {
    let outer = PeakMemory::start();
    {
        let inner = PeakMemory::start();
        drop(ones());
        assert_eq!(tensors(&inner), 1);
    }
    assert_eq!(tensors(&outer), 0);
    drop((ones(), ones()));
    assert_eq!(tensors(&outer), 2);
}

//! The products against the same expressions in libtorch's own operations: values, and the gradients of everything.
#![allow(missing_docs, clippy::unwrap_used)]

use tch::{Device, Kind, Tensor};
use torch_ops::{Adaptation, adapted_linear, f_adapted_linear, linear};

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (kind, Device::Cpu))
}

fn leaf(tensor: Tensor) -> Tensor {
    tensor.set_requires_grad(true)
}

/// Checks two outputs and the gradients of `inputs` for the same random output gradient.
#[track_caller]
fn agree(what: &str, found: &Tensor, expected: &Tensor, inputs: &[&Tensor], tolerance: f64) {
    let probe = expected.detach().randn_like();
    let mut pairs = vec![(found.detach(), expected.detach())];
    let gradients = |y: &Tensor| Tensor::run_backward(&[(y * &probe).sum(None)], inputs, true, false);
    pairs.extend(gradients(found).into_iter().zip(gradients(expected)));
    for (place, (found, expected)) in pairs.into_iter().enumerate() {
        assert_eq!(found.size(), expected.size(), "{what} {place}");
        let [difference, scale] = [(&found - &expected).abs().max(), expected.abs().max()]
            .map(|value| value.to_kind(Kind::Double).double_value(&[]));
        assert!(difference <= tolerance * scale, "{what}, tensor {place}: {difference:.1e} of {scale:.1e}");
    }
}

#[test]
fn a_linear_layer_has_libtorchs_values_and_gradients() {
    tch::manual_seed(1);
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::Double, 1e-13)] {
        for (inputs, outputs) in [(7, 5), (5, 70), (128, 64)] {
            let x = leaf(random(&[3, 50, inputs], kind));
            let weight = leaf(random(&[outputs, inputs], kind));
            let bias = leaf(random(&[outputs], kind));
            let expected = x.linear(&weight, Some(&bias));
            let found = linear(&x, &weight, Some(&bias));
            agree(&format!("{kind:?} {outputs}"), &found, &expected, &[&x, &weight, &bias], tolerance);
            let expected = x.linear(&weight, None::<&Tensor>);
            agree("no bias", &linear(&x, &weight, None), &expected, &[&x, &weight], tolerance);
        }
    }
}

#[test]
fn a_frozen_weight_has_no_gradient_and_an_input_may_have_none() {
    let (x, weight) = (leaf(random(&[4, 6], Kind::Float)), random(&[5, 6], Kind::Float));
    agree("x", &linear(&x, &weight, None), &x.linear(&weight, None::<&Tensor>), &[&x], 1e-5);
    let (x, weight) = (x.detach(), leaf(weight));
    agree("weight", &linear(&x, &weight, None), &x.linear(&weight, None::<&Tensor>), &[&weight], 1e-5);
    assert!(!linear(&x, &weight.detach(), None).requires_grad());
}

/// scale * (W (p * x) + B (A (p * x)) + b) + shift, run by run.
fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, change: Adaptation<'_>, runs: i64) -> Tensor {
    let by_run = |vector: &Tensor| vector.unsqueeze(1).unsqueeze(1);
    let matrix = |of_runs: &Tensor| of_runs.unsqueeze(1).transpose(2, 3);
    let x = x.reshape([runs, -1, x.size()[1], x.size()[2]]);
    let x = change.p.map_or_else(|| x.shallow_clone(), |p| &x * by_run(p));
    let y = x.linear(weight, bias);
    let y = change
        .low_rank
        .map_or_else(|| y.shallow_clone(), |[a, b]| &y + x.matmul(&matrix(a)).matmul(&matrix(b)));
    let y = change.scale.map_or_else(|| y.shallow_clone(), |scale| &y * by_run(scale));
    let y = change.shift.map_or_else(|| y.shallow_clone(), |shift| &y + by_run(shift));
    y.flatten(0, 1)
}

/// Every combination of the parts of an adaptation, with and without a bias, but for none at all.
#[test]
fn an_adapted_linear_layer_has_the_values_and_gradients_of_adapted_activations() {
    tch::manual_seed(2);
    for (kind, tolerance) in [(Kind::Float, 5e-5), (Kind::Double, 1e-11)] {
        for runs in [1, 3] {
            let x = leaf(random(&[runs * 2, 70, 9], kind));
            let weight = random(&[6, 9], kind);
            let bias = random(&[6], kind);
            let vector = |width: i64| leaf(random(&[runs, width], kind) * 0.3 + 1.0);
            let (p, scale, shift) = (vector(9), vector(6), vector(6));
            let (a, b) = (leaf(random(&[runs, 2, 9], kind)), leaf(random(&[runs, 6, 2], kind)));
            for parts in 2..32 {
                let has = |part: i32| parts & (1 << part) != 0;
                let change = Adaptation {
                    p: has(1).then_some(&p),
                    low_rank: has(2).then_some([&a, &b]),
                    scale: has(3).then_some(&scale),
                    shift: has(4).then_some(&shift),
                };
                let bias = has(0).then_some(&bias);
                let mut inputs = vec![&x];
                inputs.extend(change.p.into_iter().chain(change.scale).chain(change.shift));
                inputs.extend(change.low_rank.into_iter().flatten());
                let found = adapted_linear(&x, &weight, bias, change);
                let what = format!("{kind:?}, {runs} runs, parts {parts:05b}");
                agree(&what, &found, &plain(&x, &weight, bias, change, runs), &inputs, tolerance);
            }
        }
    }
}

#[test]
fn an_input_without_a_gradient_costs_none() {
    tch::manual_seed(5);
    let (x, weight) = (random(&[4, 30, 9], Kind::Double), random(&[6, 9], Kind::Double));
    let (a, b) = (leaf(random(&[2, 2, 9], Kind::Double)), leaf(random(&[2, 6, 2], Kind::Double)));
    let p = leaf(random(&[2, 9], Kind::Double));
    for p in [None, Some(&p)] {
        let change = Adaptation { p, low_rank: Some([&a, &b]), ..Adaptation::default() };
        let inputs: Vec<&Tensor> = [&a, &b].into_iter().chain(p).collect();
        let expected = plain(&x, &weight, None, change, 2);
        agree("x", &adapted_linear(&x, &weight, None, change), &expected, &inputs, 1e-11);
    }
}

#[test]
fn a_factor_of_zero_has_its_gradient() {
    tch::manual_seed(3);
    let (x, weight) = (leaf(random(&[2, 40, 4], Kind::Float)), random(&[3, 4], Kind::Float));
    let p = leaf(Tensor::from_slice(&[1.0_f32, 0.0, -0.5, 2.0]).unsqueeze(0));
    let scale = leaf(Tensor::from_slice(&[0.0_f32, 1.0, -1.0]).unsqueeze(0));
    let change = Adaptation { p: Some(&p), scale: Some(&scale), ..Adaptation::default() };
    let found = adapted_linear(&x, &weight, None, change);
    agree("zero", &found, &plain(&x, &weight, None, change, 1), &[&x, &p, &scale], 1e-4);
}

#[test]
fn bf16_activations_get_gradients_of_f32_tensors_within_its_precision() {
    tch::manual_seed(4);
    let x = leaf(random(&[4, 64, 32], Kind::Float).to_kind(Kind::BFloat16));
    let weight = random(&[24, 32], Kind::Float).to_kind(Kind::BFloat16);
    let (p, scale) =
        (leaf(random(&[2, 32], Kind::Float) * 0.1 + 1.0), leaf(random(&[2, 24], Kind::Float) * 0.1 + 1.0));
    let (a, b) = (leaf(random(&[2, 4, 32], Kind::Float)), leaf(random(&[2, 24, 4], Kind::Float)));
    let change = Adaptation { p: Some(&p), low_rank: Some([&a, &b]), scale: Some(&scale), shift: None };
    let found = adapted_linear(&x, &weight, None, change);
    assert_eq!(found.kind(), Kind::BFloat16);
    let wide = plain(&x.to_kind(Kind::Float), &weight.to_kind(Kind::Float), None, change, 2);
    agree("bf16", &found.to_kind(Kind::Float), &wide, &[&x, &p, &scale, &a, &b], 2e-2);
}

#[test]
fn shapes_that_do_not_fit_are_an_error() {
    let (x, weight) = (random(&[2, 5, 4], Kind::Float), random(&[3, 7], Kind::Float));
    let error = torch_ops::f_linear(&x, &weight, None).unwrap_err().to_string();
    assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    let error = f_adapted_linear(&x, &weight, None, Adaptation::default()).unwrap_err().to_string();
    assert!(error.contains("adaptation"), "{error}");
}

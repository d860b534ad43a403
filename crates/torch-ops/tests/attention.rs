//! Attention within short sequences against libtorch's: values and gradients.
#![allow(missing_docs, clippy::unwrap_used)]

use tch::{Device, Kind, Tensor};
use torch_ops::short_attention;

fn qkv(shape: [i64; 3], scale: f64) -> Tensor {
    (Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale).set_requires_grad(true)
}

/// libtorch's attention in f64.
fn expected(qkv: &Tensor, heads: i64, queries: i64) -> Tensor {
    let [batch, tokens, width] = qkv.size()[..] else { unreachable!() };
    let size = width / 3 / heads;
    let parts = qkv.to_kind(Kind::Double).view([batch, tokens, 3, heads, size]).permute([2, 0, 3, 1, 4]);
    let [q, k, v] = [0, 1, 2].map(|part| parts.get(part));
    let q = q.narrow(2, 0, queries);
    let y = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false);
    y.transpose(1, 2).reshape([batch, queries, heads * size]).to_kind(Kind::Float)
}

#[test]
fn short_attention_has_libtorchs_values_and_gradients() {
    tch::manual_seed(1);
    for (tokens, heads, size, queries) in [
        (17, 4, 16, 17),
        (17, 4, 16, 1),
        (1, 1, 16, 1),
        (50, 2, 64, 3),
        (64, 1, 128, 64),
        (33, 3, 32, 33),
        (24, 2, 8, 24),
    ] {
        // Scores of up to some hundreds saturate the softmax, and rounding them in f32 shows.
        for scale in [1.0, 8.0] {
            let x = qkv([3, tokens, 3 * heads * size], scale);
            let y = short_attention(&x, heads, queries).unwrap();
            let reference = expected(&x, heads, queries);
            let probe = reference.detach().randn_like();
            let gradient = |y: &Tensor| Tensor::run_backward(&[(y * &probe).sum(None)], &[&x], true, false);
            for (what, found, expected) in [
                ("values", y.detach(), reference.detach()),
                ("gradient", gradient(&y).remove(0), gradient(&reference).remove(0)),
            ] {
                assert_eq!(found.size(), expected.size());
                let [difference, largest] = [(&found - &expected).abs().max(), expected.abs().max()]
                    .map(|value| value.double_value(&[]));
                let case = format!("{what}, {tokens} tokens, {heads} x {size}, {queries} queries, {scale}");
                assert!(
                    difference <= 1e-5 * scale * largest.max(1.0),
                    "{case}: {difference:.1e} of {largest:.1e}"
                );
            }
        }
    }
}

#[test]
fn a_number_that_is_not_finite_stays_so_in_its_sequence() {
    let x = qkv([2, 5, 48], 1.0).detach();
    for part in [0, 16, 32] {
        let broken = x.copy();
        let _ = broken.get(0).get(2).narrow(0, part, 1).fill_(f64::NAN);
        let y = short_attention(&broken, 1, 5).unwrap().isfinite();
        assert!(!bool::try_from(y.get(0).get(2).all()).unwrap(), "{part}");
        assert!(bool::try_from(y.get(1).all()).unwrap(), "{part}");
    }
}

#[test]
fn what_the_kernel_does_not_compute_is_left_to_libtorch() {
    assert!(short_attention(&qkv([1, 65, 48], 1.0), 1, 65).is_none());
    assert!(short_attention(&qkv([1, 5, 36], 1.0), 1, 5).is_none());
    assert!(short_attention(&qkv([1, 5, 3 * 144], 1.0), 1, 5).is_none());
    assert!(short_attention(&qkv([1, 5, 48], 1.0).to_kind(Kind::Double), 1, 5).is_none());
}

//! Attention within short sequences on a processor.

use std::ffi::{c_char, c_void};

use tch::{Device, Kind, Tensor};

use crate::{RawTensor, fitting, raw, result};

unsafe extern "C" {
    fn torch_ops_short_attention_lanes(tokens: i64, head_size: i64) -> i64;
    fn torch_ops_short_attention(
        y: *mut *mut c_void,
        qkv: RawTensor,
        heads: i64,
        queries: i64,
    ) -> *mut c_char;
}

/// Scaled dot-product attention of the first `queries` of all tokens, `[batch, queries, dim]`, from `qkv` `[batch, tokens, 3 *
/// dim]`, by a kernel for sequences of tens of tokens, where libtorch's spends its time on calls of small products. `None`
/// where that kernel does not apply: on a GPU, in another dtype than f32, and where [`short_attention_lanes`] is.
pub fn short_attention(qkv: &Tensor, heads: i64, queries: i64) -> Option<Tensor> {
    let [_, tokens, width] = qkv.size()[..] else { return None };
    short_attention_lanes(tokens, width / 3 / heads)?;
    // SAFETY: the pointer is that of a living tensor.
    let y = || unsafe { result(|y| torch_ops_short_attention(y, raw(qkv), heads, queries)) };
    (qkv.device() == Device::Cpu && qkv.kind() == Kind::Float).then(|| fitting(y()))
}

/// The numbers that [`short_attention`] keeps for each query of each head; `None` with more than 64 tokens, with heads of more
/// than 128 channels or of a number that 8 does not divide, or on a processor without AVX2.
pub fn short_attention_lanes(tokens: i64, head_size: i64) -> Option<i64> {
    // SAFETY: the function only computes with its arguments.
    let lanes = unsafe { torch_ops_short_attention_lanes(tokens, head_size) };
    (lanes > 0).then_some(lanes)
}

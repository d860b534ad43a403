//! The counter of operations.
#![allow(missing_docs, clippy::unwrap_used)]

use tch::{Device, Kind, Tensor};
use torch_ops::operations_of;

#[test]
fn operations_are_counted_once_where_the_work_is_done() {
    let x = Tensor::randn([4, 6], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let weight = Tensor::randn([5, 6], (Kind::Float, Device::Cpu));
    let mut y = None;
    let forward = operations_of(|| y = Some(x.linear(&weight, None::<Tensor>).relu().sum(Kind::Float)));
    // `linear` without a bias is a transposed view and a product.
    assert_eq!(forward.get("aten::mm"), Some(&1), "{forward:?}");
    assert_eq!(forward.get("aten::relu"), None, "it calls clamp_min: {forward:?}");
    assert!(!forward.contains_key("aten::linear") && !forward.contains_key("aten::t"), "{forward:?}");
    let backward = operations_of(|| y.take().unwrap().backward());
    assert_eq!(backward.get("aten::mm"), Some(&1), "{backward:?}");
    assert!(operations_of(|| ()).is_empty());
}

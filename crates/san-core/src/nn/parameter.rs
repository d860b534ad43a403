//! Model tensors: frozen and shared by all runs, or trained with one copy per run.
//!
//! Activations of K runs are stacked along the batch dimension, grouped by run: `[K * batch, ..., channels]`.
//! The functions here apply one vector or matrix per run to that run's slice of the stack. For K = 1 they cost
//! the same as the plain operation.

use tch::{Kind, Tensor};

/// A model tensor. Trained tensors are stored in f32 and used in the dtype of the activations that they meet.
#[derive(Debug)]
pub enum Parameter {
    /// Frozen, with the checkpoint's values.
    Frozen(Tensor),
    /// Trained: `[K, ...]`, and the dtype that it is used in.
    Trained(Tensor, Kind),
}

impl Parameter {
    /// A trained tensor `[K, ...]`, used in its own dtype.
    pub fn trained(tensor: Tensor) -> Self {
        let kind = tensor.kind();
        Self::Trained(tensor, kind)
    }

    /// A trained tensor `[K, ...]` that replaces a frozen one, whose dtype it is used in.
    pub fn replacing(frozen: &Tensor, trained: Tensor) -> Self {
        Self::Trained(trained, frozen.kind())
    }

    /// The dtype that it is used in.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Frozen(tensor) => tensor.kind(),
            Self::Trained(_, kind) => *kind,
        }
    }

    /// The plain tensor if there is only one: frozen, or trained with K = 1.
    pub fn single(&self) -> Option<Tensor> {
        match self {
            Self::Frozen(tensor) => Some(tensor.shallow_clone()),
            Self::Trained(tensor, kind) => {
                (tensor.size()[0] == 1).then(|| tensor.squeeze_dim(0).to_kind(*kind))
            }
        }
    }

    /// `[1 or K, ...]`, with an explicit stack dimension.
    pub fn stacked(&self) -> Tensor {
        match self {
            Self::Frozen(tensor) => tensor.unsqueeze(0),
            Self::Trained(tensor, kind) => tensor.to_kind(*kind),
        }
    }

    /// One tensor per sample, `[1 or K * batch, ...]`, for `batch` samples per run.
    pub fn per_sample(&self, batch: i64) -> Tensor {
        let stacked = self.stacked();
        if stacked.size()[0] == 1 {
            stacked
        } else {
            stacked.repeat_interleave_self_int(batch / stacked.size()[0], 0, None)
        }
    }

    /// Reshapes each run's tensor to `shape`.
    pub fn reshape(&self, shape: &[i64]) -> Self {
        let stacked = |tensor: &Tensor| {
            let shape: Vec<i64> = std::iter::once(tensor.size()[0]).chain(shape.iter().copied()).collect();
            tensor.reshape(shape.as_slice())
        };
        match self {
            Self::Frozen(tensor) => Self::Frozen(tensor.reshape(shape)),
            Self::Trained(tensor, kind) => Self::Trained(stacked(tensor), *kind),
        }
    }
}

/// `x * vector`: `x` is `[K * batch, ..., channels]`, `vector` `[K, channels]`.
pub fn scale(x: &Tensor, vector: &Tensor) -> Tensor {
    let vector = &vector.to_kind(x.kind());
    if vector.size()[0] == 1 { x * vector.squeeze_dim(0) } else { by_run(x, vector, |x, v| x * v) }
}

/// `x + vector`, shapes as for [`scale`].
pub fn shift(x: &Tensor, vector: &Tensor) -> Tensor {
    let vector = &vector.to_kind(x.kind());
    if vector.size()[0] == 1 { x + vector.squeeze_dim(0) } else { by_run(x, vector, |x, v| x + v) }
}

fn by_run(x: &Tensor, vector: &Tensor, apply: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let (stack, channels) = (vector.size()[0], vector.size()[1]);
    apply(&x.reshape([stack, -1, channels]), &vector.unsqueeze(1)).reshape(x.size())
}

/// `x W^T`, computed in the dtype of `weight` `[out, in]` and returned in that of `x`.
pub fn product(x: &Tensor, weight: &Tensor) -> Tensor {
    let (outer, inner) = (x.kind(), weight.kind());
    if outer == inner {
        return torch_ops::linear(x, weight, None);
    }
    torch_ops::linear(&x.to_kind(inner), weight, None).to_kind(outer)
}

/// `y + B A x` for A `[K, rank, in]` and B `[K, out, rank]`: `x` is `[K * batch, ..., in]`, `y` `[K * batch, ..., out]`.
pub fn add_low_rank(x: &Tensor, y: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let [a, b] = [a, b].map(|factor| factor.to_kind(x.kind()));
    let (&[stack, _, inputs], &[_, outputs, _]) = (&a.size()[..], &b.size()[..]) else {
        unreachable!("factors have three dimensions")
    };
    let hidden = x.reshape([stack, -1, inputs]).matmul(&a.transpose(1, 2));
    let y_by_run = y.reshape([stack, -1, outputs]);
    y_by_run.baddbmm(&hidden, &b.transpose(1, 2), 1, 1).reshape(y.size())
}

/// `x W^T + b`: `x` is `[K * batch, ..., in]`; per run, the weight is `[out, in]` and the bias `[out]`.
pub fn linear(x: &Tensor, weight: &Parameter, bias: Option<&Parameter>) -> Tensor {
    let kind = x.kind();
    let single = |parameter: &Parameter| parameter.single().map(|tensor| tensor.to_kind(kind));
    let single_bias = bias.map(single);
    match (single(weight), single_bias) {
        (Some(weight), None) => torch_ops::linear(x, &weight, None),
        (Some(weight), Some(Some(bias))) => torch_ops::linear(x, &weight, Some(&bias)),
        (Some(weight), Some(None)) => add_bias(&torch_ops::linear(x, &weight, None), bias),
        (None, _) => {
            let weight = weight.stacked().to_kind(kind);
            let [stack, outputs, inputs] = weight.size()[..] else {
                unreachable!("a linear weight has two dimensions per run")
            };
            let mut shape = x.size();
            if let Some(last) = shape.last_mut() {
                *last = outputs;
            }
            let y = x.reshape([stack, -1, inputs]).matmul(&weight.transpose(1, 2)).reshape(shape.as_slice());
            add_bias(&y, bias)
        }
    }
}

fn add_bias(y: &Tensor, bias: Option<&Parameter>) -> Tensor {
    bias.map_or_else(|| y.shallow_clone(), |bias| shift(y, &bias.stacked()))
}

/// Flattens images `[batch, height, width, channels]` into patches, one row each, in the element order of a
/// convolution weight: `[batch, height / size, width / size, channels * size * size]`.
pub fn patches(images: &Tensor, size: i64) -> Tensor {
    let [batch, height, width, channels] = images.size()[..] else {
        unreachable!("images have four dimensions")
    };
    let (rows, columns) = (height / size, width / size);
    images.reshape([batch, rows, size, columns, size, channels]).permute([0, 1, 3, 5, 2, 4]).reshape([
        batch,
        rows,
        columns,
        channels * size * size,
    ])
}

/// Depthwise convolution: `x` is `[K * batch, height, width, channels]`; per run, the weight is `[channels,
/// kernel * kernel]` and the bias `[channels]`. Zero padding preserves height and width.
pub fn depthwise(x: &Tensor, weight: &Parameter, bias: Option<&Parameter>, kernel: i64) -> Tensor {
    let [batch, height, width, channels] = x.size()[..] else { unreachable!("images have four dimensions") };
    let weight = weight.stacked().to_kind(x.kind());
    let stack = weight.size()[0];
    // Runs become channel groups: [batch, K * channels, height, width].
    let (x, last) = if stack == 1 {
        (x.permute([0, 3, 1, 2]), [0, 2, 3, 1].as_slice())
    } else {
        let runs = x.reshape([stack, batch / stack, height, width, channels]).permute([1, 0, 4, 2, 3]);
        (runs.reshape([batch / stack, stack * channels, height, width]), [1, 0, 3, 4, 2].as_slice())
    };
    let weight = weight.reshape([stack * channels, 1, kernel, kernel]);
    let single = bias.map(Parameter::stacked).filter(|bias| bias.size()[0] == stack);
    let flat = single.as_ref().map(|bias| bias.reshape([-1]).to_kind(x.kind()));
    let y = x.conv2d(&weight, flat.as_ref(), [1, 1], [kernel / 2, kernel / 2], [1, 1], stack * channels);
    let y = if stack == 1 {
        y.permute(last)
    } else {
        let runs = y.reshape([batch / stack, stack, channels, height, width]);
        runs.permute(last).reshape([batch, height, width, channels])
    };
    if single.is_some() { y } else { add_bias(&y, bias) }
}

/// Layer norm over the last dimension, with a shared or per-run affine map.
pub fn layer_norm(x: &Tensor, weight: &Parameter, bias: &Parameter, epsilon: f64) -> Tensor {
    let width = *x.size().last().unwrap_or(&1);
    match (weight.single(), bias.single()) {
        (Some(weight), Some(bias)) => {
            let [weight, bias] = [weight, bias].map(|tensor| tensor.to_kind(x.kind()));
            x.layer_norm([width], Some(weight), Some(bias), epsilon, false)
        }
        _ => {
            let normal = x.layer_norm([width], None::<Tensor>, None::<Tensor>, epsilon, false);
            shift(&scale(&normal, &weight.stacked()), &bias.stacked())
        }
    }
}

/// RMS norm over the last dimension: x / sqrt(mean(x^2) + epsilon), times a shared or per-run weight.
pub fn rms_norm(x: &Tensor, weight: &Parameter, epsilon: f64) -> Tensor {
    let width = *x.size().last().unwrap_or(&1);
    match weight.single() {
        Some(weight) => x.rms_norm([width], Some(weight.to_kind(x.kind())), epsilon),
        None => scale(&x.rms_norm([width], None::<Tensor>, epsilon), &weight.stacked()),
    }
}

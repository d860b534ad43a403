//! Window geometry: partitioning, relative positions, and the mask of shifted windows.

use tch::{Device, Kind, Tensor};

use crate::vision::swin::config::StageSizes;

/// Added to attention logits between tokens that are adjacent only because of the shift (timm's value).
const SHIFT_MASK_VALUE: f64 = -100.0;

/// `[batch, height, width, channels]` to `[batch * windows, window^2, channels]`.
pub(super) fn windows(x: &Tensor, window: i64) -> Tensor {
    let [batch, height, width, channels] = x.size()[..] else { unreachable!("a grid of tokens") };
    x.reshape([batch, height / window, window, width / window, window, channels])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([-1, window * window, channels])
}

/// The row of the relative position bias table for each pair of tokens in a window.
pub(super) fn relative_positions(window: i64) -> Tensor {
    let coordinates = || (0..window).flat_map(|row| (0..window).map(move |column| (row, column)));
    let row = |(r1, c1): (i64, i64), (r2, c2): (i64, i64)| {
        (r1 - r2 + window - 1) * (2 * window - 1) + c1 - c2 + window - 1
    };
    let rows: Vec<i64> =
        coordinates().flat_map(|one| coordinates().map(move |other| row(one, other))).collect();
    Tensor::from_slice(&rows)
}

/// 0 for token pairs of a shifted window that belong to the same image region, [`SHIFT_MASK_VALUE`] for the others.
pub(super) fn shift_mask(sizes: StageSizes, shift: i64) -> Tensor {
    let StageSizes { side, window, .. } = sizes;
    let whole = (side + window - 1) / window * window;
    let band = |index: i64| i64::from(index >= whole - window) + i64::from(index >= whole - shift);
    let regions: Vec<i64> =
        (0..whole).flat_map(|row| (0..whole).map(move |column| 3 * band(row) + band(column))).collect();
    let regions = windows(&Tensor::from_slice(&regions).reshape([1, whole, whole, 1]), window).squeeze_dim(2);
    let differ = regions.unsqueeze(1).ne_tensor(&regions.unsqueeze(2));
    let zeros = Tensor::zeros(differ.size(), (Kind::Float, Device::Cpu));
    zeros.masked_fill(&differ, SHIFT_MASK_VALUE).unsqueeze(1)
}

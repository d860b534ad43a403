//! What the methods did to the weights, for the figures of it: `weight_shift.json` beside an adapter.
//!
//! An adapter says all of it, so nothing is stored while cells run. Of an experiment one data set and seed are looked
//! at, as its figures show one.

use std::path::Path;

use anyhow::Result;
use report::record::State;
use report::weight_shift::{Crop, LayerShift, WEIGHT_SHIFT_FILE, WeightShift};
use report::{Comparison, STUDIED};
use runner::files::write_json;
use san_core::{Error, Weights, merge};
use tch::Tensor;

use super::tuned::Tuned;

/// Side of the corner of a weight that is stored before and after.
const CROP: i64 = 24;

/// Writes the file of every method on the first data set and seed that the method under study has a cell of.
pub(super) fn write_all(comparison: &Comparison) -> Result<()> {
    let cells = || comparison.records().iter().filter(|cell| cell.record.state == State::Finished);
    let Some(studied) = cells().find(|cell| cell.record.method.name == STUDIED) else { return Ok(()) };
    let place = (&studied.record.dataset.name, studied.record.seed);
    for cell in cells().filter(|cell| (&cell.record.dataset.name, cell.record.seed) == place) {
        let folder = cell.path.parent().unwrap_or(Path::new("."));
        let file = folder.join(WEIGHT_SHIFT_FILE);
        // Committed records come without their adapters.
        if !file.exists()
            && folder.join(report::record::ADAPTER_FILE).exists()
            && let Some(shift) = shift_of(folder)?
        {
            write_json(&file, &shift)?;
        }
    }
    Ok(())
}

/// The shift of a cell; none where no weight moved, or none stands for what the method adds.
fn shift_of(folder: &Path) -> Result<Option<WeightShift>> {
    let Tuned { layout, weights, trainables, attachment, .. } = Tuned::open(folder)?;
    let merged = match merge::merge(&layout, &weights, &attachment, &trainables, 0) {
        Err(Error::Unmergeable { .. }) => return Ok(None),
        merged => merged?,
    };
    let mut layers = Vec::new();
    for site in &layout.sites {
        layers.extend(layer(&site.name, &weights, &merged)?);
    }
    if let Some(largest) =
        (0..layers.len()).max_by(|&one, &other| moved(&layers[one]).total_cmp(&moved(&layers[other])))
    {
        let name = format!("{}.weight", layers[largest].name);
        layers[largest].crop = Some(crop(weights.get(&name)?, merged.get(&name)?)?);
    }
    let moved = layers.iter().any(|layer| moved(layer) > 0.0);
    Ok(moved.then_some(WeightShift { layers }))
}

fn moved(layer: &LayerShift) -> f64 {
    layer.singular_values.first().copied().unwrap_or(0.0)
}

/// The shift of a projection's weight; none where it is no matrix.
fn layer(site: &str, before: &Weights, after: &Weights) -> Result<Option<LayerShift>> {
    let name = format!("{site}.weight");
    let (before, after) = (before.get(&name)?, after.get(&name)?);
    if before.dim() != 2 {
        return Ok(None);
    }
    let shift = after.f_to_kind(tch::Kind::Double)?.f_sub(&before.f_to_kind(tch::Kind::Double)?)?;
    let (_, singular_values, _) = shift.f_svd(true, false)?;
    let singular_values = Vec::<f64>::try_from(singular_values)?;
    let effective_rank = effective_rank(&singular_values);
    Ok(Some(LayerShift { name: site.to_owned(), singular_values, effective_rank, crop: None }))
}

/// exp of the entropy of the values as shares of their sum (Roy and Vetterli 2007).
fn effective_rank(singular_values: &[f64]) -> f64 {
    let sum: f64 = singular_values.iter().sum();
    if sum == 0.0 {
        return 0.0;
    }
    let shares = singular_values.iter().map(|value| value / sum).filter(|share| *share > 0.0);
    shares.map(|share| -share * share.ln()).sum::<f64>().exp()
}

fn crop(before: &Tensor, after: &Tensor) -> Result<Crop> {
    let corner = |weight: &Tensor| -> Result<Vec<Vec<f32>>> {
        let (rows, columns) = weight.size2()?;
        let corner = weight.f_narrow(0, 0, rows.min(CROP))?.f_narrow(1, 0, columns.min(CROP))?;
        Ok(Vec::try_from(corner.f_to_kind(tch::Kind::Float)?)?)
    };
    Ok(Crop { before: corner(before)?, after: corner(after)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_rank_is_the_rank_of_equal_values() {
        for (values, expected) in [(vec![2.0; 4], 4.0), (vec![3.0, 0.0, 0.0], 1.0), (vec![0.0, 0.0], 0.0)] {
            assert!((effective_rank(&values) - expected).abs() < 1e-12, "{values:?}");
        }
    }
}

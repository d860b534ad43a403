//! How the methods changed the weights, for the figures: `weight_shift.json` next to an adapter.
//!
//! It is computed from the adapter, so runs store nothing extra. For each experiment one data set and seed are
//! analysed, since the figures show one.

use std::path::Path;

use anyhow::Result;
use report::load::weight_shift::{Crop, LayerShift, WEIGHT_SHIFT_FILE, WeightShift};
use report::record::State;
use report::{Comparison, STUDIED};
use runner::io::files::write_json;
use san_core::Error;
use san_core::Weights;
use san_core::adapters::merge;
use tch::Tensor;

use super::meter::{Meter, Unit};
use crate::commands::trained_run::TrainedRun;

/// Side of the corner of a weight matrix that is stored before and after.
const CROP: i64 = 24;

/// Writes the file of every method on the first data set and seed for which the method under study has a run.
pub(super) fn write_all(comparison: &Comparison) -> Result<()> {
    let runs = || comparison.records().iter().filter(|run| run.record.state == State::Finished);
    // The threads of an eigenvalue decomposition wait for each other longer than they compute: it takes 20 times as
    // long with another process running.
    tch::set_num_threads(1);
    let Some(studied) = runs().find(|run| run.record.method.name == STUDIED) else { return Ok(()) };
    let place = (&studied.record.dataset.name, studied.record.seed);
    for run in runs().filter(|run| (&run.record.dataset.name, run.record.seed) == place) {
        let folder = run.path.parent().unwrap_or(Path::new("."));
        let file = folder.join(WEIGHT_SHIFT_FILE);
        // Records in the repository come without their adapters.
        if !file.exists()
            && folder.join(report::record::ADAPTER_FILE).exists()
            && let Some(shift) = shift_of(&run.record.method.label, folder)?
        {
            write_json(&file, &shift)?;
        }
    }
    Ok(())
}

/// The weight shift of a run; `None` if no weight moved, or if the method cannot be merged.
fn shift_of(method: &str, folder: &Path) -> Result<Option<WeightShift>> {
    let TrainedRun { base, trainables, adapters, .. } = TrainedRun::open(folder)?;
    let (model_spec, weights) = (base.model_spec(), base.weights());
    let merged = match merge::merge(model_spec, weights, &adapters, &trainables, 0) {
        Err(Error::Unmergeable { .. }) => return Ok(None),
        merged => merged?,
    };
    let meter = Meter::new(format!("weights of {method}"), Unit::Projections, 0);
    let mut layers = Vec::new();
    for (done, site) in (1..).zip(&model_spec.sites) {
        layers.extend(layer(&site.name, weights, &merged)?);
        meter.show(done, model_spec.sites.len() as u64);
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

/// The shift of a projection's weight; `None` if it is not a matrix.
fn layer(site: &str, before: &Weights, after: &Weights) -> Result<Option<LayerShift>> {
    let name = format!("{site}.weight");
    let (before, after) = (before.get(&name)?, after.get(&name)?);
    if before.dim() != 2 {
        return Ok(None);
    }
    let shift = after.f_to_kind(tch::Kind::Double)?.f_sub(&before.f_to_kind(tch::Kind::Double)?)?;
    let singular_values = singular_values(&shift)?;
    let effective_rank = effective_rank(&singular_values);
    Ok(Some(LayerShift { name: site.to_owned(), singular_values, effective_rank, crop: None }))
}

/// The singular values of a matrix in f64, largest first: the square roots of the eigenvalues of its smaller Gram
/// matrix, many times faster than an SVD. Values below 1e-8 of the largest are lost; f32 weights have none.
fn singular_values(matrix: &Tensor) -> Result<Vec<f64>> {
    let (rows, columns) = matrix.size2()?;
    let (wide, transposed) = (matrix.shallow_clone(), matrix.f_transpose(0, 1)?);
    let gram = if rows <= columns { wide.f_matmul(&transposed)? } else { transposed.f_matmul(&wide)? };
    let squares = gram.f_linalg_eigvalsh("L")?.f_flip([0].as_slice())?;
    Ok(Vec::try_from(squares.f_clamp_min(0.0)?.f_sqrt()?)?)
}

/// Effective rank: exp of the entropy of the values normalised to sum 1 (Roy and Vetterli 2007).
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
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn singular_values_are_those_of_a_decomposition() -> Result<()> {
        tch::manual_seed(5);
        let low_rank = Tensor::randn([40, 6], (Kind::Double, Device::Cpu))
            .matmul(&Tensor::randn([6, 90], (Kind::Double, Device::Cpu)));
        for matrix in [Tensor::randn([30, 70], (Kind::Double, Device::Cpu)), low_rank.tr(), low_rank] {
            let (_, expected, _) = matrix.svd(true, false);
            let expected = Vec::<f64>::try_from(expected)?;
            let found = singular_values(&matrix)?;
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found} {expected}");
            }
        }
        Ok(())
    }

    #[test]
    fn the_effective_rank_is_the_rank_of_equal_values() {
        for (values, expected) in [(vec![2.0; 4], 4.0), (vec![3.0, 0.0, 0.0], 1.0), (vec![0.0, 0.0], 0.0)] {
            assert!((effective_rank(&values) - expected).abs() < 1e-12, "{values:?}");
        }
    }
}

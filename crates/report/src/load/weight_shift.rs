//! How fine-tuning changed the weights of one run: `weight_shift.json` in its folder.
//!
//! It is written by code that has the weights (this crate does not link libtorch): for each layer the singular values
//! of W' - W, their effective rank, and for one or more layers a small crop of W before and after.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ReportError;

/// Name of the file in a run's folder.
pub const WEIGHT_SHIFT_FILE: &str = "weight_shift.json";

/// The shift of one run's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightShift {
    /// In model order, at least one.
    pub layers: Vec<LayerShift>,
}

/// The shift of one layer's weight `[out, in]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerShift {
    /// The site, for example `blocks.3.attn.qkv`.
    pub name: String,
    /// Singular values of W' - W, largest first; all of them, or the first N.
    pub singular_values: Vec<f64>,
    /// exp of the entropy of the singular values divided by their sum (Roy and Vetterli 2007), over all of them; 0
    /// where the weight did not change.
    pub effective_rank: f64,
    /// A crop of the weight, where one was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
}

/// The same crop of a weight before and after tuning: rows of equal length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Of the frozen weight.
    pub before: Vec<Vec<f32>>,
    /// Of the tuned one.
    pub after: Vec<Vec<f32>>,
}

impl WeightShift {
    /// Reads the file in a run's folder; `None` if there is none.
    ///
    /// # Errors
    /// When it is malformed, lists no layer, or holds values that are not finite or crops of another shape.
    pub fn read(folder: &Path) -> Result<Option<Self>, ReportError> {
        let path = folder.join(WEIGHT_SHIFT_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let fault = |reason: String| ReportError::Drawing { path: path.clone(), reason };
        let text = std::fs::read(&path).map_err(|error| fault(error.to_string()))?;
        let shift: Self = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
        match shift.contradiction() {
            Some(reason) => Err(fault(reason)),
            None => Ok(Some(shift)),
        }
    }

    fn contradiction(&self) -> Option<String> {
        if self.layers.is_empty() {
            return Some("it has no layers".into());
        }
        self.layers.iter().find_map(|layer| {
            let values = layer.singular_values.iter().chain([&layer.effective_rank]);
            if !values.clone().all(|value| value.is_finite() && *value >= 0.0) {
                return Some(format!("{} has a value that is negative or not finite", layer.name));
            }
            let crop = layer.crop.as_ref()?;
            (!crop.is_valid())
                .then(|| format!("the crops of {} differ in shape or are not finite", layer.name))
        })
    }
}

impl Crop {
    /// Rows and columns; at least two of each.
    pub fn shape(&self) -> (usize, usize) {
        (self.before.len(), self.before.first().map_or(0, Vec::len))
    }

    fn is_valid(&self) -> bool {
        let (rows, columns) = self.shape();
        let is_shaped = |crop: &[Vec<f32>]| crop.len() == rows && crop.iter().all(|row| row.len() == columns);
        let finite = self.before.iter().chain(&self.after).flatten().all(|value| value.is_finite());
        rows > 1 && columns > 1 && is_shaped(&self.before) && is_shaped(&self.after) && finite
    }
}

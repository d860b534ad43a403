//! The gammas of one SAN run, read from its adapter file.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::ReportError;
use crate::load::Stored;
use crate::record::ADAPTER_FILE;

/// Suffix of the tensors that hold a gamma; the prefix is the site's name.
const ENDING: &str = ".gamma";

/// Parts of site names in the order in which a model computes them; other parts follow, numbers by value and names in
/// alphabetical order.
const MODEL_ORDER: [&str; 16] = [
    "patch_embed",
    "stem",
    "blocks",
    "layers",
    "stages",
    "attn",
    "mlp",
    "qkv",
    "q",
    "k",
    "v",
    "proj",
    "fc1",
    "gate",
    "up",
    "fc2",
];

/// One site's vector.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gamma {
    /// The site, for example `blocks.3.attn.qkv`.
    pub(super) site: String,
    /// One value per channel.
    pub(super) values: Vec<f32>,
}

/// Reads all gammas (`[1, channels]`, f32) of a run's adapter, in model order; at least one.
pub(super) fn read(stored: &Stored) -> Result<Vec<Gamma>, ReportError> {
    let fault = |reason: String| {
        let path = stored.path.with_file_name(ADAPTER_FILE);
        ReportError::Adapter { path, reason }
    };
    let bytes = stored.record.read_file(&stored.path, ADAPTER_FILE)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| fault(error.to_string()))?;
    let mut gammas = Vec::new();
    for (name, tensor) in file.iter() {
        if let Some(site) = name.strip_suffix(ENDING) {
            gammas.push(Gamma { site: site.into(), values: vector(name, &tensor).map_err(fault)? });
        }
    }
    if gammas.is_empty() {
        return Err(fault(format!("no tensor's name ends in `{ENDING}`")));
    }
    gammas.sort_by_cached_key(|gamma| model_order(&gamma.site));
    Ok(gammas)
}

fn vector(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, String> {
    if !matches!(tensor.shape(), [1, channels] if *channels > 0) {
        return Err(format!("{name} has the shape {:?}, not [1, channels]", tensor.shape()));
    }
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        // The upper half of an f32.
        Dtype::BF16 => {
            let wide = |&[low, high]: &[u8; 2]| f32::from_le_bytes([0, 0, low, high]);
            tensor.data().as_chunks().0.iter().map(wide).collect()
        }
        other => return Err(format!("{name} is {other:?}, not F32 or BF16")),
    };
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("{name} contains {value}")),
        None => Ok(values),
    }
}

/// Sorts by known parts, then by number, then by name; numbers come before names.
fn model_order(site: &str) -> Vec<(usize, (bool, u64), String)> {
    site.split('.')
        .map(|part| {
            let known = MODEL_ORDER.iter().position(|known| *known == part).unwrap_or(MODEL_ORDER.len());
            let number = part.parse().map_or((true, 0), |number| (false, number));
            (known, number, part.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_sorted_in_model_order() {
        let expected = [
            "patch_embed.proj",
            "blocks.2.attn.qkv",
            "blocks.2.attn.proj",
            "blocks.2.mlp.fc1",
            "blocks.2.mlp.fc2",
            "blocks.10.attn.qkv",
        ];
        let mut sites = expected;
        sites.sort();
        sites.sort_by_key(|site| model_order(site));
        assert_eq!(sites, expected);
    }
}

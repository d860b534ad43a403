//! SSF: a scale and a shift behind every projection and every norm (arXiv 2210.08823).
//!
//! As published, scales start from N(1, 0.02) and shifts from N(0, 0.02): the model is not quite the
//! frozen one at the first step. Names: `<site or norm>.ssf_scale` and `.ssf_shift`.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Tensor;

use super::Method;
use crate::site::{Adapter, Merged, NormAffine, rescale};
use crate::trainables::{Group, Init, TrainableSpec, Trainables};
use crate::{Attachment, Error, Layout, Weights};

const DEVIATION: f64 = 0.02;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ssf {}

impl Method for Ssf {
    fn name(&self) -> &'static str {
        "ssf"
    }

    fn label(&self) -> String {
        "SSF".into()
    }

    fn options(&self) -> Value {
        json!({})
    }

    fn trainables(&self, layout: &Layout) -> Result<Vec<TrainableSpec>, Error> {
        let sites = layout.sites.iter().map(|site| (&site.name, site.outputs));
        let norms = layout.norms.iter().map(|norm| (&norm.name, norm.width));
        let pair = |(name, width): (&String, i64)| {
            let spec = |what, mean| TrainableSpec {
                name: format!("{name}.{what}"),
                shape: vec![width],
                init: Init::Normal { mean, deviation: DEVIATION },
                group: Group::Method,
            };
            [spec("ssf_scale", 1.0), spec("ssf_shift", 0.0)]
        };
        Ok(sites.chain(norms).flat_map(pair).collect())
    }

    fn attach(&self, layout: &Layout, _: &Weights, trainables: &Trainables) -> Result<Attachment, Error> {
        let mut attachment = Attachment::default();
        let affine = |name: &str| {
            let scale = trainables.get(&format!("{name}.ssf_scale"))?;
            Ok::<_, Error>(NormAffine { scale, shift: trainables.get(&format!("{name}.ssf_shift"))? })
        };
        for site in &layout.sites {
            attachment.sites.insert(site.name.clone(), Rc::new(ScaleShift(affine(&site.name)?)));
        }
        for norm in &layout.norms {
            attachment.norms.insert(norm.name.clone(), Rc::new(affine(&norm.name)?));
        }
        Ok(attachment)
    }
}

#[derive(Debug)]
struct ScaleShift(NormAffine);

impl Adapter for ScaleShift {
    fn adapt(&self, _: &Tensor, y: Tensor) -> Tensor {
        rescale(&y, &self.0.scale, Some(&self.0.shift))
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        let (scale, shift) = (self.0.scale.f_get(run)?, self.0.shift.f_get(run)?);
        let bias = bias.map_or_else(|| shift.shallow_clone(), |bias| bias * &scale + &shift);
        Ok((weight * scale.unsqueeze(1), Some(bias)))
    }
}

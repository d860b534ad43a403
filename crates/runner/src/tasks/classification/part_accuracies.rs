//! Evaluates one trained SAN in parts: gammas on features only, gammas on the next weights only, and the head on the
//! frozen backbone. The authors' code logs these in addition to the full model.

use anyhow::Result;
use backbones::vision::Classifier;
use san_core::{AdapterSet, methods};

use super::classifier;
use crate::tasks::Tuned;
use crate::train::log::PartAccuracies;

/// Models over the same trained tensors.
pub(super) struct Parts {
    nt: Classifier,
    sp: Classifier,
    head: Classifier,
}

impl Parts {
    /// The parts of a SAN in mode `both`; `None` for any other method.
    pub(super) fn of(tuned: &Tuned<'_>) -> Result<Option<Self>> {
        let options = tuned.method.options()?;
        if tuned.method.name() != "san" || options["mode"] != "both" {
            return Ok(None);
        }
        let in_mode = |mode: &str| -> Result<Classifier> {
            let mut options = options.clone();
            options.insert("mode".into(), mode.into());
            if mode == "nt" {
                // Options that act only on p have no meaning in this mode.
                options.insert("ltd_ltp".into(), false.into());
                options.insert("detach".into(), false.into());
            }
            let method = methods::find("san", options)?;
            let (model_spec, weights) = (tuned.base.model_spec(), tuned.weights);
            classifier(tuned, &method.attach(model_spec, weights, tuned.trainables)?)
        };
        let head = classifier(tuned, &AdapterSet::default())?;
        Ok(Some(Self { nt: in_mode("nt")?, sp: in_mode("sp")?, head }))
    }

    /// The accuracy of each part; `None` if one of them is not finite.
    pub(super) fn accuracies(
        &self,
        accuracy: &mut dyn FnMut(&Classifier) -> Result<Option<f64>>,
    ) -> Result<Option<PartAccuracies>> {
        let all = (accuracy(&self.nt)?, accuracy(&self.sp)?, accuracy(&self.head)?);
        let (Some(nt), Some(sp), Some(head)) = all else { return Ok(None) };
        Ok(Some(PartAccuracies { nt, sp, head }))
    }
}

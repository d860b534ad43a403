//! Counts what each method trains in each backbone, which needs the architecture of a backbone but not its weights.

use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::{Error, Result};
use san_core::ModelSpec;
use san_core::methods;
use san_core::spec::trainable::TrainableSpec;
use serde_json::{Map, Value};

use crate::config::experiment::Profile;
use crate::config::overrides::Resolved;
use crate::models::{BaseModel, NamedArchitecture};
use crate::plan::missing::Missing;
use crate::plan::{Plan, resolved_options, row};
use crate::resources::Resources;
use crate::tasks::{Protocol, Task, Unit};

impl Plan {
    /// Adds a column to the table of methods: how many parameters each trains in this backbone.
    pub(super) fn count_parameters(
        &mut self,
        profile: &Profile,
        units: &[Unit],
        backbone: &str,
        missing: &mut Missing,
        resources: &mut Resources,
    ) -> Result<()> {
        for (spec, columns) in profile.methods.iter().zip(&mut self.methods) {
            if !spec.is_for(backbone) {
                columns.push("-".into());
                continue;
            }
            let (mut counts, mut budgets) = (BTreeSet::new(), BTreeSet::new());
            for unit in units {
                let Resolved { spec, protocol } =
                    profile.resolved(spec, &unit.set, backbone).map_err(Error::msg)?;
                let protocol = protocol.with_input(|| resources.models.input(backbone))?;
                let task = protocol.task().map_err(Error::msg)?;
                let base = model(task, backbone, &protocol, missing, resources)?;
                let model_spec = match &base {
                    Some(base) => Some(Cow::Borrowed(base.model_spec())),
                    None => known_spec(backbone, &protocol, resources).map(Cow::Owned),
                };
                if let Some(spec) = &model_spec {
                    self.sizes.insert(backbone.to_owned(), spec.parameters());
                }
                let trials = spec.trials(&protocol).map_err(Error::msg)?;
                let modules = protocol.modules_to_save(&spec.method).map_err(Error::msg)?;
                budgets.insert(trials.len());
                let options = trials.iter().map(|trial| resolved_options(&spec, trial));
                let mut counted: Vec<Map<String, Value>> = Vec::new();
                for options in options.collect::<Result<Vec<_>>>()? {
                    let Some(model_spec) = model_spec.as_deref() else { break };
                    if !counted.contains(&options) {
                        let method = methods::find(&spec.method, options.clone())?;
                        let specs = methods::trainables_with(&*method, &modules, model_spec)?;
                        counts.insert(specs.iter().map(TrainableSpec::count).sum::<i64>());
                        counted.push(options);
                    }
                }
            }
            let label = methods::find(&spec.method, spec.options.clone())?.label()?;
            columns[0] = row(spec)?.unwrap_or(label);
            let budgets =
                budgets.iter().map(|&most| if most > 1 { most.to_string() } else { "fixed".into() });
            columns[1] = budgets.collect::<Vec<_>>().join(" or ");
            let counts: Vec<String> = counts.iter().map(i64::to_string).collect();
            columns.push(if counts.is_empty() { "-".into() } else { counts.join(" or ") });
        }
        Ok(())
    }
}

/// A model with its weights; `None` if they are missing, or if they are unusable and something else is missing.
pub(super) fn model(
    task: &dyn Task,
    backbone: &str,
    protocol: &Protocol,
    missing: &mut Missing,
    resources: &mut Resources,
) -> Result<Option<BaseModel>> {
    if missing.lacks_model(backbone) {
        return Ok(None);
    }
    missing.or_list(task.base_model(backbone, protocol.precision.kind(), &mut resources.models))
}

/// What a method sees of a model without weights; `None` where only the model's own configuration says it.
fn known_spec(backbone: &str, protocol: &Protocol, resources: &Resources) -> Option<ModelSpec> {
    let architecture = resources.models.architecture(backbone).ok()?;
    let size = protocol.classification.as_ref().and_then(|task| task.image.image_size);
    match (architecture, size) {
        (NamedArchitecture::Vision(vision), Some(size)) => {
            Some(vision.at_image_size(size.into()).ok()?.model_spec(backbone))
        }
        (other, _) => Some(other.model_spec(backbone)),
    }
}

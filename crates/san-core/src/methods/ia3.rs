//! (IA)3: scales for keys, values and the input of an MLP's last projection (arXiv 2205.05638).
//!
//! The output scale also applies to the bias, as in peft. Names: `<target>.ia3`, `[rows]` on outputs and
//! `[inputs]` on inputs.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Tensor;

use crate::methods::peft::{self, Imported, PeftFiles, PeftForm, check_linear, roles};
use crate::methods::targets::{self, Target};
use crate::methods::{Method, MethodInfo, bad_option, parse};
use crate::nn::site::{Adapter, Merged, OutputChange};
use crate::spec::effects::{Effects, SiteEffect};
use crate::spec::init::Init;
use crate::spec::model::{Role, SiteSpec};
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "ia3",
    label: "IA3",
    summary: "a scale on keys, values and the hidden layer of MLPs",
    inference_cost: "none when merged",
    source: "Liu et al., arXiv 2205.05638",
    published_as: &["IA3", "(IA)3"],
    parse: parse::<Ia3>,
    from_peft: Some(from_peft),
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ia3 {
    /// Roles whose outputs are scaled.
    targets: Vec<Role>,
    /// Roles whose inputs are scaled.
    feedforward: Vec<Role>,
}

impl Default for Ia3 {
    /// As published: keys, values and the hidden layer of the MLP.
    fn default() -> Self {
        Self { targets: vec![Role::K, Role::V], feedforward: vec![Role::Down] }
    }
}

/// A site with its output targets, and whether its input is scaled.
struct TargetSite<'a> {
    site: &'a SiteSpec,
    targets: Vec<Target>,
    on_input: bool,
}

impl Ia3 {
    fn target_sites<'a>(&self, model_spec: &'a ModelSpec) -> Result<Vec<TargetSite<'a>>, Error> {
        if let Some(role) = self.targets.iter().find(|role| self.feedforward.contains(role)) {
            let names = targets::names(&[*role]);
            return Err(bad_option("ia3", &format!("`{}` is in both `targets` and `feedforward`", names[0])));
        }
        let all: Vec<Role> = self.targets.iter().chain(&self.feedforward).copied().collect();
        let found = targets::find("ia3", &all, model_spec)?;
        let target_site = |(site, targets): (&'a SiteSpec, Vec<Target>)| {
            let on_input = self.feedforward.contains(&site.role);
            TargetSite { site, targets: if on_input { Vec::new() } else { targets }, on_input }
        };
        Ok(found.into_iter().map(target_site).collect())
    }
}

impl Ia3 {
    /// The scales attached to each site.
    fn scales(
        &self,
        model_spec: &ModelSpec,
        trainables: &Trainables,
    ) -> Result<Vec<(SiteSpec, Scales)>, Error> {
        let mut all = Vec::new();
        for TargetSite { site, targets, on_input } in self.target_sites(model_spec)? {
            let input = on_input.then(|| trainables.get(&named(&site.name))).transpose()?;
            let outputs = targets
                .iter()
                .map(|target| Ok((target.start, trainables.get(&named(&target.path))?)))
                .collect::<Result<Vec<_>, Error>>()?;
            all.push((site.clone(), Scales { input, outputs, rows: site.outputs }));
        }
        Ok(all)
    }
}

fn named(path: &str) -> String {
    format!("{path}.ia3")
}

fn from_peft(files: &mut PeftFiles, model_spec: &ModelSpec) -> Result<Option<Imported>, String> {
    if files.kind() != "IA3" {
        return Ok(None);
    }
    let vectors = files.take(".ia3_l");
    let (inputs, outputs): (BTreeMap<_, _>, BTreeMap<_, _>) =
        vectors.into_iter().partition(|(_, vector)| vector.size()[0] == 1);
    let options = peft::options([
        ("targets", json!(roles(model_spec, outputs.keys())?)),
        ("feedforward", json!(roles(model_spec, inputs.keys())?)),
    ]);
    let flat = inputs.into_iter().chain(outputs).map(|(site, vector)| (site, vector.reshape([-1])));
    let tensors = peft::named(flat.collect(), "ia3");
    Ok(Some(Imported { method: INFO.name.into(), options, tensors }))
}

impl Method for Ia3 {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let spec = |path: &str, length| TrainableSpec {
            name: named(path),
            shape: vec![length],
            init: Init::Ones,
            group: Group::Method,
        };
        let mut specs = Vec::new();
        for TargetSite { site, targets, on_input } in self.target_sites(model_spec)? {
            specs.extend(targets.iter().map(|target| spec(&target.path, target.rows)));
            specs.extend(on_input.then(|| spec(&site.name, site.channels())));
        }
        Ok(specs)
    }

    fn to_peft(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
        run: i64,
    ) -> Result<PeftForm, Error> {
        let mut form = PeftForm::default();
        let (mut modules, mut feedforward) = (Vec::new(), Vec::new());
        for (site, scales) in self.scales(model_spec, trainables)? {
            check_linear("ia3", &site)?;
            let vector = match (&scales.input, scales.output()) {
                (Some(input), _) => {
                    feedforward.push(site.name.clone());
                    input.f_get(run)?.f_unsqueeze(0)?
                }
                (None, Some(output)) => output.f_get(run)?.f_unsqueeze(1)?,
                (None, None) => continue,
            };
            form.modules.insert(format!("{}.ia3_l", site.name), vector);
            modules.push(site.name);
        }
        form.configure([
            ("peft_type", json!("IA3")),
            ("target_modules", json!(modules)),
            ("feedforward_modules", json!(feedforward)),
        ]);
        Ok(form)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        let effect = |TargetSite { site, targets, on_input }: TargetSite<'_>| {
            let output_scale = !targets.is_empty();
            (site.name.clone(), SiteEffect { input_scale: on_input, output_scale, ..SiteEffect::default() })
        };
        let sites = self.target_sites(model_spec)?.into_iter().map(effect);
        Ok(Effects { sites: sites.collect(), ..Effects::default() })
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = AdapterSet::default();
        for (site, scales) in self.scales(model_spec, trainables)? {
            adapters.sites.insert(site.name, Rc::new(scales));
        }
        Ok(adapters)
    }
}

#[derive(Debug)]
struct Scales {
    input: Option<Tensor>,
    /// First row and scale of each target.
    outputs: Vec<(i64, Tensor)>,
    rows: i64,
}

impl Scales {
    /// `[K, rows]`, 1 outside the targets; `None` if no output is scaled.
    fn output(&self) -> Option<Tensor> {
        let padded = |(start, vector): &(i64, Tensor)| {
            let after = self.rows - start - vector.size()[1];
            (vector - 1.0).constant_pad_nd([*start, after])
        };
        self.outputs.iter().map(padded).reduce(|sum, next| sum + next).map(|sum| sum + 1.0)
    }
}

impl Adapter for Scales {
    fn input_scale(&self) -> Option<Tensor> {
        self.input.as_ref().map(Tensor::shallow_clone)
    }

    fn output_change(&self) -> Option<OutputChange> {
        Some(OutputChange { scale: self.output(), ..OutputChange::default() })
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        let Some(vector) = self.output() else { return Ok((weight, bias)) };
        let vector = vector.f_get(run)?;
        Ok((weight * vector.unsqueeze(1), bias.map(|bias| bias * vector)))
    }
}

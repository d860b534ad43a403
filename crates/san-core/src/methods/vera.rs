//! VeRA: two frozen random projections shared by all targets, and two trained vectors per target (arXiv
//! 2310.11454).
//!
//! y' = y + lambda_b (B (lambda_d (A x))), where A `[rank, inputs]` and B `[rows, rank]` are the first columns
//! and rows of the shared matrices. These are the constants `vera.a` and `vera.b`, randomly initialised as in
//! peft. Names: `<target>.lambda_d` `[rank]`, initially 0.1, and `.lambda_b` `[rows]`, zero.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Tensor;

use crate::methods::peft::{Imported, PeftFiles, PeftForm, check_linear, named, options, roles};
use crate::methods::targets::{Targeted, Targets};
use crate::methods::{Method, MethodInfo, check_size, parse};
use crate::nn::parameter::scale;
use crate::nn::site::{Adapter, Merged};
use crate::spec::effects::{Effects, SiteEffect, Update};
use crate::spec::init::Init;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "vera",
    label: "VeRA",
    summary: "two vectors per projection between shared random matrices",
    inference_cost: "none when merged",
    source: "Kopiczko et al., arXiv 2310.11454",
    published_as: &["VeRA"],
    parse: parse::<Vera>,
    from_peft: Some(from_peft),
};

/// Name of the constant A.
pub(super) const A: &str = "vera.a";
/// Name of the constant B.
pub(super) const B: &str = "vera.b";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Vera {
    rank: i64,
    targets: Targets,
}

impl Default for Vera {
    /// Rank 256 on the usual targets, the paper's choice for ViT.
    fn default() -> Self {
        Self { rank: 256, targets: Targets::Usual }
    }
}

impl Vera {
    fn targeted<'a>(&self, model_spec: &'a ModelSpec) -> Result<Vec<Targeted<'a>>, Error> {
        check_size("vera", "rank", self.rank)?;
        self.targets.within("vera", model_spec)
    }
}

fn from_peft(files: &mut PeftFiles, model_spec: &ModelSpec) -> Result<Option<Imported>, String> {
    if files.kind() != "VERA" {
        return Ok(None);
    }
    let lambda_d = files.take(".vera_lambda_d");
    let rank = lambda_d.values().next().ok_or("it has no `vera_lambda_d`")?.numel();
    let targets = roles(model_spec, lambda_d.keys())?;
    let options = options([("rank", json!(rank)), ("targets", json!(targets))]);
    let mut tensors = named(lambda_d, "lambda_d");
    tensors.extend(named(files.take(".vera_lambda_b"), "lambda_b"));
    for (theirs, ours) in [("base_model.vera_A", A), ("base_model.vera_B", B)] {
        let shared = files.tensors.remove(theirs);
        let shared = shared.ok_or(format!("it has no `{theirs}`; save it with `save_projection`"))?;
        tensors.insert(ours.into(), shared);
    }
    Ok(Some(Imported { method: INFO.name.into(), options, tensors }))
}

impl Method for Vera {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn title(&self) -> String {
        if self.rank == Self::default().rank { "VeRA".into() } else { format!("VeRA r={}", self.rank) }
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let spec = |path: &str, what, length, init| TrainableSpec {
            name: format!("{path}.{what}"),
            shape: vec![length],
            init,
            group: Group::Method,
        };
        let mut specs = Vec::new();
        for target in self.targeted(model_spec)?.iter().flat_map(|(_, targets)| targets) {
            let start = Init::Normal { mean: 0.1, deviation: 0.0 };
            specs.push(spec(&target.path, "lambda_d", self.rank, start));
            specs.push(spec(&target.path, "lambda_b", target.rows, Init::Zeros));
        }
        Ok(specs)
    }

    fn constants(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let targeted = self.targeted(model_spec)?;
        let inputs = targeted.iter().map(|(site, _)| site.inputs).max().unwrap_or(1);
        let rows =
            targeted.iter().flat_map(|(_, targets)| targets).map(|target| target.rows).max().unwrap_or(1);
        #[allow(clippy::cast_precision_loss)]
        let spec = |name: &str, shape: [i64; 2]| TrainableSpec {
            name: name.into(),
            shape: shape.to_vec(),
            // Kaiming-uniform with ReLU gain.
            init: Init::Uniform { bound: (6.0 / shape[1] as f64).sqrt() },
            group: Group::Method,
        };
        Ok(vec![spec(A, [self.rank, inputs]), spec(B, [rows, self.rank])])
    }

    fn to_peft(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
        run: i64,
    ) -> Result<PeftForm, Error> {
        let mut form = PeftForm::default();
        let mut modules = Vec::new();
        for (site, targets) in self.targeted(model_spec)? {
            check_linear("vera", site)?;
            for target in targets {
                if target.path != site.name {
                    return Err(Error::Unexportable {
                        method: "vera".into(),
                        reason: format!(
                            "`{}` is part of `{}`; peft adapts only whole projections",
                            target.path, site.name
                        ),
                    });
                }
                for (ours, theirs) in [("lambda_d", "vera_lambda_d"), ("lambda_b", "vera_lambda_b")] {
                    let vector = trainables.get(&format!("{}.{ours}", target.path))?.f_get(run)?;
                    form.modules.insert(format!("{}.{theirs}", site.name), vector);
                }
            }
            modules.push(site.name.clone());
        }
        for (ours, theirs) in [(A, "vera_A"), (B, "vera_B")] {
            form.shared.insert(theirs.into(), trainables.constant(ours)?);
        }
        form.configure([
            ("peft_type", json!("VERA")),
            ("r", json!(self.rank)),
            ("target_modules", json!(modules)),
            ("save_projection", json!(true)),
            ("vera_dropout", json!(0.0)),
            ("d_initial", json!(0.1)),
            ("bias", json!("none")),
        ]);
        Ok(form)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        let effect = |(site, targets): Targeted<'_>| {
            let rows = targets.iter().map(|target| target.rows).collect();
            let update = Some(Update::Vectors { rank: self.rank, rows });
            (site.name.clone(), SiteEffect { update, ..SiteEffect::default() })
        };
        let sites = self.targeted(model_spec)?.into_iter().map(effect);
        Ok(Effects { sites: sites.collect(), ..Effects::default() })
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        _: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let (a, b) = (trainables.constant(A)?, trainables.constant(B)?);
        let mut adapters = AdapterSet::default();
        for (site, targets) in self.targeted(model_spec)? {
            let mut blocks = Vec::new();
            for target in targets {
                blocks.push(Block {
                    b: b.f_narrow(0, 0, target.rows)?,
                    lambda_d: trainables.get(&format!("{}.lambda_d", target.path))?,
                    lambda_b: trainables.get(&format!("{}.lambda_b", target.path))?,
                    start: target.start,
                });
            }
            let update =
                RandomProjections { a: a.f_narrow(1, 0, site.inputs)?, blocks, outputs: site.outputs };
            adapters.sites.insert(site.name.clone(), Rc::new(update));
        }
        Ok(adapters)
    }
}

#[derive(Debug)]
struct Block {
    b: Tensor,
    lambda_d: Tensor,
    lambda_b: Tensor,
    start: i64,
}

impl Block {
    /// Pads a tensor whose last dimension is this target's rows with zeros to all outputs.
    fn padded(&self, rows: &Tensor, outputs: i64) -> Tensor {
        let after = outputs - self.start - self.b.size()[0];
        if self.start == 0 && after == 0 {
            rows.shallow_clone()
        } else {
            rows.constant_pad_nd([self.start, after])
        }
    }
}

#[derive(Debug)]
struct RandomProjections {
    a: Tensor,
    blocks: Vec<Block>,
    outputs: i64,
}

impl Adapter for RandomProjections {
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        let hidden = x.linear(&self.a.to_kind(x.kind()), None::<Tensor>);
        self.blocks.iter().fold(y, |y, block| {
            let rows = scale(&hidden, &block.lambda_d).linear(&block.b.to_kind(x.kind()), None::<Tensor>);
            y + block.padded(&scale(&rows, &block.lambda_b), self.outputs)
        })
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        // Not `+=`: the weight is a view of the frozen one.
        let merged = self.blocks.iter().try_fold(weight, |weight, block| {
            let scaled = &block.b * block.lambda_d.f_get(run)? * block.lambda_b.f_get(run)?.f_unsqueeze(1)?;
            let update = block.padded(&scaled.f_matmul(&self.a)?.f_transpose(0, 1)?, self.outputs);
            Ok::<_, Error>(weight + update.f_transpose(0, 1)?)
        })?;
        Ok((merged, bias))
    }
}

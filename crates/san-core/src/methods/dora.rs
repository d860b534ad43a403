//! DoRA: weights decomposed into direction and magnitude (arXiv 2402.09353).
//!
//! W' = m (W + s B A) / ||W + s B A||, row by row; m is initialised to the frozen row norms. The paper detaches
//! the norm from the gradient (`detach_norm`); both variants are supported. The bias is not scaled: with g = m /
//! norm, y' = g (W x + s B A x) + b.  Names: LoRA's, plus `<target>.magnitude`.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::methods::host::{Host, Scaling};
use crate::methods::lora::{Lora, Updated};
use crate::methods::low_rank::LowRank;
use crate::methods::low_rank_peft::{low_rank_from_peft, peft_form};
use crate::methods::peft::{Imported, PeftFiles, PeftForm, named};
use crate::methods::row_norms::{DetachedNorms, RowNorms};
use crate::methods::san_dora;
use crate::methods::targets::{Target, Targets};
use crate::methods::{Method, MethodInfo, parse};
use crate::nn::site::{Adapter, Merged, OutputChange, rescale};
use crate::spec::effects::Effects;
use crate::spec::init::{FrozenRows, Init};
use crate::spec::model::SiteSpec;
use crate::spec::trainable::{Group, TrainableSpec};
use crate::train::trainables::Trainables;
use crate::{AdapterSet, Error, ModelSpec, Weights};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "dora",
    label: "DoRA",
    summary: "a low-rank update of each row's direction, and its magnitude",
    inference_cost: "none when merged",
    source: "Liu et al., arXiv 2402.09353",
    published_as: &["DoRA"],
    parse: parse::<Dora>,
    from_peft: Some(from_peft),
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Dora {
    rank: i64,
    alpha: f64,
    targets: Targets,
    detach_norm: bool,
    dropout: f64,
}

impl Default for Dora {
    /// LoRA's defaults, with the norm detached, as published.
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0, targets: Targets::Usual, detach_norm: true, dropout: 0.0 }
    }
}

impl Dora {
    fn lora(&self) -> Lora {
        Lora::plain(self.rank, self.alpha, self.targets.clone(), self.dropout)
    }

    fn decompositions(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<Vec<(String, Decomposition)>, Error> {
        let mut all = Vec::new();
        for Updated { site, targets, update } in self.lora().updates("dora", model_spec, trainables)? {
            let magnitudes = magnitudes(&targets, trainables)?;
            let norms = Rc::new(RowNorms::new(&site, weights, update.clone())?);
            all.push((site.name, Decomposition { update, norms, detached: None, magnitudes }));
        }
        if self.detach_norm {
            let norms = all.iter().map(|(_, one)| one.norms.clone()).collect();
            let detached = Rc::new(DetachedNorms::new(norms, trainables.values())?);
            for (position, (_, one)) in all.iter_mut().enumerate() {
                one.detached = Some((detached.clone(), position));
            }
        }
        Ok(all)
    }
}

/// The trained magnitudes and their first rows, in row order.
fn magnitudes(targets: &[Target], trainables: &Trainables) -> Result<Vec<(i64, Tensor)>, Error> {
    let mut all = targets
        .iter()
        .map(|target| Ok((target.start, trainables.get(&magnitude(&target.path))?)))
        .collect::<Result<Vec<_>, Error>>()?;
    all.sort_by_key(|(start, _)| *start);
    Ok(all)
}

fn magnitude(path: &str) -> String {
    format!("{path}.magnitude")
}

fn from_peft(files: &mut PeftFiles, model_spec: &ModelSpec) -> Result<Option<Imported>, String> {
    if files.kind() != "LORA" || !files.flag("use_dora") {
        return Ok(None);
    }
    if files.flag("use_rslora") {
        return Err("DoRA with `use_rslora` is not supported".into());
    }
    let mut imported = low_rank_from_peft(INFO.name, files, model_spec)?;
    imported.tensors.extend(named(files.take(".lora_magnitude_vector"), "magnitude"));
    Ok(Some(imported))
}

impl Method for Dora {
    fn info(&self) -> &'static MethodInfo {
        &INFO
    }

    fn title(&self) -> String {
        let attached = if self.detach_norm { "" } else { " (attached norm)" };
        format!("DoRA{}{attached}", self.lora().suffix())
    }

    fn trainables(&self, model_spec: &ModelSpec) -> Result<Vec<TrainableSpec>, Error> {
        let mut specs = self.lora().specs("dora", model_spec)?;
        let spec = |site: &SiteSpec, target: &Target| {
            let weight = format!("{}.weight", site.name);
            let rows = FrozenRows { weight, start: target.start, length: target.rows };
            TrainableSpec {
                name: magnitude(&target.path),
                shape: vec![target.rows],
                init: Init::RowNorms(rows),
                group: Group::Method,
            }
        };
        for (site, targets) in self.lora().targeted("dora", model_spec)? {
            specs.extend(targets.iter().map(|target| spec(site, target)));
        }
        Ok(specs)
    }

    fn to_peft(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
        run: i64,
    ) -> Result<PeftForm, Error> {
        let updates = self.lora().updates("dora", model_spec, trainables)?;
        let mut form = peft_form("dora", &updates, self.dropout, run)?;
        form.config.insert("use_dora".into(), true.into());
        for (site, decomposition) in self.decompositions(model_spec, weights, trainables)? {
            let magnitude = decomposition.magnitude().f_get(run)?;
            form.modules.insert(format!("{site}.lora_magnitude_vector"), magnitude);
        }
        Ok(form)
    }

    fn effects(&self, model_spec: &ModelSpec) -> Result<Effects, Error> {
        self.lora().update_effects("dora", model_spec, true)
    }

    fn attach(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<AdapterSet, Error> {
        let mut adapters = AdapterSet::default();
        for (site, decomposition) in self.decompositions(model_spec, weights, trainables)? {
            adapters.sites.insert(site, Rc::new(decomposition));
        }
        Ok(adapters)
    }
}

impl Host for Dora {
    const SAN: &'static MethodInfo = &san_dora::INFO;

    fn scaled(&self, model_spec: &ModelSpec) -> Result<Vec<String>, Error> {
        self.lora().scaled(model_spec)
    }

    /// m_i / ||W_i||.
    fn scalings(
        &self,
        model_spec: &ModelSpec,
        weights: &Weights,
        trainables: &Trainables,
    ) -> Result<BTreeMap<String, Rc<dyn Scaling>>, Error> {
        let all = self.decompositions(model_spec, weights, trainables)?;
        Ok(all.into_iter().map(|(site, one)| (site, Rc::new(one) as Rc<dyn Scaling>)).collect())
    }
}

/// What DoRA does at one site.
#[derive(Debug)]
struct Decomposition {
    update: Rc<LowRank>,
    norms: Rc<RowNorms>,
    /// The norms of all sites without their gradient, and this site's position among them.
    detached: Option<(Rc<DetachedNorms>, usize)>,
    /// First row and `[K, rows]` of each target, in row order.
    magnitudes: Vec<(i64, Tensor)>,
}

impl Decomposition {
    /// m of every row, `[K, outputs]`; rows without a target keep their frozen norm.
    fn magnitude(&self) -> Tensor {
        let rows = self.norms.rows();
        if let [(0, whole)] = &self.magnitudes[..]
            && whole.size()[1] == rows
        {
            return whole.shallow_clone();
        }
        let (frozen, stack) = (self.norms.before(), self.magnitudes[0].1.size()[0]);
        let frozen_rows =
            |from: i64, to: i64| frozen.narrow(0, from, to - from).expand([stack, to - from], false);
        let mut pieces = Vec::new();
        let mut row = 0;
        for (start, magnitude) in &self.magnitudes {
            pieces.push(frozen_rows(row, *start));
            pieces.push(magnitude.shallow_clone());
            row = start + magnitude.size()[1];
        }
        pieces.push(frozen_rows(row, rows));
        Tensor::cat(&pieces, 1)
    }

    /// g = m / norm, `[K, outputs]`.
    fn gain(&self) -> Tensor {
        let norm = match &self.detached {
            Some((all, position)) => all.after(*position),
            None => self.norms.after(),
        };
        self.magnitude() / norm
    }
}

impl Adapter for Decomposition {
    fn output_change(&self) -> Option<OutputChange> {
        let low_rank = Some(self.update.undropped()?);
        Some(OutputChange { low_rank, scale: Some(self.gain()), shift: None, bias_is_unscaled: true })
    }

    /// With dropout, as in peft and the paper's code, only what the gain adds uses the dropped-out input, not the frozen
    /// output.
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor {
        let dropped = self.update.dropped(x);
        let x = dropped.as_ref().unwrap_or(x);
        let frozen = self.norms.product(x);
        y + rescale(&self.update.add(x, &frozen), &self.gain(), None) - frozen
    }

    fn merge(&self, run: i64, weight: Tensor, bias: Option<Tensor>) -> Result<Merged, Error> {
        let gain = self.gain().f_get(run)?;
        Ok(((weight + self.update.matrix(run)?) * gain.unsqueeze(1), bias))
    }
}

impl Scaling for Decomposition {
    fn vector(&self) -> Tensor {
        self.magnitude() / self.norms.before()
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::methods::low_rank::Block;
    use crate::nn::dropout::Dropout;
    use crate::nn::pass::Pass;
    use crate::spec::model::Role;

    /// y + (g - 1) W x' + g s B A x', where x' is x after dropout (peft's `DoraLinearLayer` in training).
    #[test]
    fn dropout_does_not_apply_to_the_frozen_output() {
        tch::manual_seed(3);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Double, Device::Cpu));
        let (weight, a, b) = (random(&[4, 30]), random(&[1, 2, 30]), random(&[1, 4, 2]));
        let (magnitude, x, y) = (random(&[1, 4]), random(&[5, 30]), random(&[5, 4]));
        let pass = Rc::new(Pass::new(vec![0]));
        let dropout = Dropout::new("site".into(), 0.3, pass.clone());
        let block = Block { a: a.shallow_clone(), b: b.shallow_clone(), start: 0 };
        let update = Rc::new(LowRank::new(vec![block], 2.0, 4, dropout));
        let site = SiteSpec::linear("site", Role::Up, 30, 4);
        let weights =
            Weights::new([("site.weight".to_owned(), weight.shallow_clone())].into_iter().collect());
        let norms = Rc::new(RowNorms::new(&site, &weights, update.clone()).unwrap());
        let magnitudes = vec![(0, magnitude.shallow_clone())];
        let decomposition = Decomposition { update: update.clone(), norms, detached: None, magnitudes };
        let (adapted, dropped) =
            pass.training(5, || (decomposition.adapt(&x, y.shallow_clone()), update.dropped(&x).unwrap()));
        let changed = &weight + b.squeeze_dim(0).matmul(&a.squeeze_dim(0)) * 2.0;
        let gain = magnitude / changed.norm_scalaropt_dim(2, [1].as_slice(), false);
        let expected = &y + (dropped.matmul(&changed.tr()) * gain) - dropped.matmul(&weight.tr());
        let difference = f64::try_from((adapted - expected).abs().max()).unwrap();
        assert!(difference < 1e-10, "{difference:.1e}");
        assert_ne!(dropped, x);
    }
}

//! LoRA and DoRA in peft's files.
//!
//! There, each module may have its own rank and alpha (`rank_pattern`, `alpha_pattern`); here all have one. Factors of a
//! smaller rank are padded with zeros, and a different scaling goes into B, which gives the same update.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::methods::lora::Updated;
use crate::methods::peft::{Imported, PeftFiles, PeftForm, check_linear, named, options, roles};
use crate::{Error, ModelSpec};

/// LoRA as stored by peft: one module per site, whose rank is the sum over its targets.
pub(super) fn peft_form(
    method: &str,
    updates: &[Updated],
    dropout: f64,
    run: i64,
) -> Result<PeftForm, Error> {
    let mut form = PeftForm::default();
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for Updated { site, update, .. } in updates {
        check_linear(method, site)?;
        let (a, b, factor) = update.factors(run)?;
        // peft computes s as alpha / rank.
        #[allow(clippy::cast_precision_loss)]
        let alpha = factor * a.size()[0] as f64;
        ranks.insert(site.name.clone(), a.size()[0].into());
        alphas.insert(site.name.clone(), alpha.into());
        form.modules.insert(format!("{}.lora_A.weight", site.name), a);
        form.modules.insert(format!("{}.lora_B.weight", site.name), b);
    }
    let first = |map: &Map<String, Value>| map.values().next().cloned();
    let (Some(rank), Some(alpha)) = (first(&ranks), first(&alphas)) else {
        return Err(Error::Unexportable { method: method.into(), reason: "it adapts no projection".into() });
    };
    form.configure([
        ("peft_type", json!("LORA")),
        ("r", json!(rank)),
        ("lora_alpha", json!(alpha)),
        ("lora_dropout", json!(dropout)),
        ("bias", json!("none")),
        ("target_modules", json!(updates.iter().map(|updated| &updated.site.name).collect::<Vec<_>>())),
    ]);
    for (name, mut map, default) in [("rank_pattern", ranks, rank), ("alpha_pattern", alphas, alpha)] {
        map.retain(|_, value| *value != default);
        form.config.insert(name.into(), map.into());
    }
    Ok(form)
}

/// Rank and scaling of a module.
#[derive(Debug, Clone, Copy)]
struct ModuleScale {
    rank: i64,
    alpha: f64,
    /// s, the factor of B A.
    scale: f64,
}

/// Options and factors of LoRA or DoRA.
pub(super) fn low_rank_from_peft(
    method: &str,
    files: &mut PeftFiles,
    model_spec: &ModelSpec,
) -> Result<Imported, String> {
    files.published_base()?;
    files.plain_lora()?;
    let (mut a, mut b) = (files.take(".lora_A.weight"), files.take(".lora_B.weight"));
    let targets = roles(model_spec, a.keys())?;
    #[allow(clippy::cast_precision_loss)]
    let divisor = match files.flag("use_rslora") {
        true => |rank: i64| (rank as f64).sqrt(),
        false => |rank: i64| rank as f64,
    };
    let mut modules = BTreeMap::new();
    for (site, a) in &a {
        let [rank @ 1..=i64::MAX, _] = a.size()[..] else {
            return Err(format!("the factors of `{site}` are not matrices"));
        };
        let alpha = files.alpha(site)?;
        modules.insert(site.clone(), ModuleScale { rank, alpha, scale: alpha / divisor(rank) });
    }
    let rank = modules.values().map(|module| module.rank).max().ok_or("it has no `lora_A`")?;
    // The module whose scaling the option `alpha` gives; the ratio of the others to it is at most 1.
    let by_scale = |one: &&ModuleScale, other: &&ModuleScale| one.scale.abs().total_cmp(&other.scale.abs());
    let largest = *modules.values().max_by(by_scale).ok_or("it has no `lora_A`")?;
    let alpha = if largest.rank == rank { largest.alpha } else { largest.scale * divisor(rank) };
    for (site, module) in &modules {
        let ratio = if module.scale == largest.scale { 1.0 } else { module.scale / largest.scale };
        let missing = rank - module.rank;
        let failed = |error: tch::TchError| error.to_string();
        if let Some(a) = a.get_mut(site).filter(|_| missing > 0) {
            *a = a.f_constant_pad_nd([0, 0, 0, missing]).map_err(failed)?;
        }
        if let Some(b) = b.get_mut(site).filter(|_| missing > 0 || ratio != 1.0) {
            *b = b.f_mul_scalar(ratio).and_then(|b| b.f_constant_pad_nd([0, missing])).map_err(failed)?;
        }
    }
    let options = options([("rank", json!(rank)), ("alpha", json!(alpha)), ("targets", json!(targets))]);
    let mut tensors = named(a, "lora_a");
    tensors.extend(named(b, "lora_b"));
    Ok(Imported { method: method.into(), options, tensors })
}

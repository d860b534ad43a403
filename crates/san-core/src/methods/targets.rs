//! Target selection by role: which rows of which projections a method adapts.
//!
//! In a fused projection, each role's rows have their own parameters, as if the projections were separate.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::model::{Projection, Role, SiteSpec};
use crate::{Error, ModelSpec};

/// Which projections a low-rank method adapts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub(super) enum Targets {
    /// Queries and values, as in LoRA's paper; both MLP projections if there is no attention.
    #[default]
    Usual,
    /// These roles.
    Roles(Vec<Role>),
}

impl TryFrom<Value> for Targets {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        if value == "usual" {
            return Ok(Self::Usual);
        }
        let roles = serde_json::from_value(value);
        roles
            .map(Self::Roles)
            .map_err(|error| format!("`targets` must be `usual` or a list of roles: {error}"))
    }
}

impl From<Targets> for Value {
    fn from(targets: Targets) -> Self {
        match targets {
            Targets::Usual => "usual".into(),
            Targets::Roles(roles) => names(&roles).into(),
        }
    }
}

impl Targets {
    /// The targets in a model; errors as in [`find`].
    pub(super) fn within<'a>(
        &self,
        method: &str,
        model_spec: &'a ModelSpec,
    ) -> Result<Vec<Targeted<'a>>, Error> {
        match self {
            Self::Roles(roles) => find(method, roles, model_spec),
            Self::Usual if model_spec.sites.iter().any(has_attention) => {
                find(method, &[Role::Q, Role::V], model_spec)
            }
            Self::Usual => find(method, &[Role::Up, Role::Down], model_spec),
        }
    }

    /// The roles in brackets, if chosen explicitly.
    pub(super) fn suffix(&self) -> String {
        match self {
            Self::Usual => String::new(),
            Self::Roles(roles) => format!(" ({})", names(roles).join(", ")),
        }
    }
}

fn has_attention(site: &SiteSpec) -> bool {
    !in_site(&[Role::Q], site).is_empty()
}

/// A range of output rows with its own parameters.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The site's name, followed by the role if it is part of a fused projection.
    pub(super) path: String,
    /// First row.
    pub(super) start: i64,
    /// Number of rows.
    pub(super) rows: i64,
}

/// A site and its targets (at least one).
pub(super) type Targeted<'a> = (&'a SiteSpec, Vec<Target>);

/// The targets of `roles`, site by site, in model order.
///
/// # Errors
/// If there are none, or one is a depthwise convolution, which does not mix channels.
pub(super) fn find<'a>(
    method: &str,
    roles: &[Role],
    model_spec: &'a ModelSpec,
) -> Result<Vec<Targeted<'a>>, Error> {
    let incompatible = |reason: String| Error::Incompatible {
        method: method.into(),
        backbone: model_spec.backbone.clone(),
        reason,
    };
    let mut found = Vec::new();
    for site in &model_spec.sites {
        let targets = in_site(roles, site);
        if targets.is_empty() {
            continue;
        }
        if matches!(site.projection, Projection::Depthwise { .. }) {
            return Err(incompatible(format!("`{}` is a depthwise convolution", site.name)));
        }
        found.push((site, targets));
    }
    if found.is_empty() {
        return Err(incompatible(format!("it has no projection of the roles {}", names(roles).join(", "))));
    }
    Ok(found)
}

fn in_site(roles: &[Role], site: &SiteSpec) -> Vec<Target> {
    if roles.contains(&site.role) {
        return vec![Target { path: site.name.clone(), start: 0, rows: site.outputs }];
    }
    let parts = site.parts.iter().filter(|part| roles.contains(&part.role));
    let target = |part: &crate::spec::model::Part| Target {
        path: format!("{}.{}", site.name, name(part.role)),
        start: part.start,
        rows: part.length,
    };
    parts.map(target).collect()
}

fn name(role: Role) -> String {
    match serde_json::to_value(role) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// The roles' names in experiment files.
pub(super) fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().copied().map(name).collect()
}

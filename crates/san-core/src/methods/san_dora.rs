//! SAN over DoRA: see `host`.

use crate::methods::dora::Dora;
use crate::methods::host::SanOver;
use crate::methods::{MethodInfo, parse};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "san_dora",
    label: "SAN-DoRA",
    summary: "DoRA, whose magnitudes are propagated into the next projection",
    inference_cost: "none when merged",
    source: "arXiv 2409.06706; the decomposition is this project's",
    published_as: &["SAN-DoRA", "DoRA+SAN"],
    parse: parse::<SanOver<Dora>>,
    from_peft: None,
};

//! SAN over SSF: see `host`.

use crate::methods::host::SanOver;
use crate::methods::ssf::Ssf;
use crate::methods::{MethodInfo, parse};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "san_ssf",
    label: "SAN-SSF",
    summary: "SSF, whose scales are propagated into the next projection",
    inference_cost: "none when merged",
    source: "arXiv 2409.06706; the decomposition is this project's",
    published_as: &["SAN-SSF", "SSF+SAN"],
    parse: parse::<SanOver<Ssf>>,
    from_peft: None,
};

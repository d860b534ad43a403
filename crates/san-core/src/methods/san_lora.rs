//! SAN over LoRA: see `host`.

use crate::methods::host::SanOver;
use crate::methods::lora::Lora;
use crate::methods::{MethodInfo, parse};

/// Registry entry: names, summary and source shown in tables and documentation.
pub(super) const INFO: MethodInfo = MethodInfo {
    name: "san_lora",
    label: "SAN-LoRA",
    summary: "LoRA, whose change of each row's norm is propagated into the next projection",
    inference_cost: "none when merged",
    source: "arXiv 2409.06706; the decomposition is this project's",
    published_as: &["SAN-LoRA", "LoRA+SAN"],
    parse: parse::<SanOver<Lora>>,
    from_peft: None,
};

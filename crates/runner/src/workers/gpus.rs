//! The GPUs of this machine, and which of them the workers of a pool are pinned to.
//!
//! They are listed by the driver's `nvidia-smi`, so that the supervising process does not initialise CUDA: it computes
//! nothing, and a context of its own would occupy memory on a GPU. Each worker sees one GPU only, which
//! `CUDA_VISIBLE_DEVICES` in its environment names by UUID, since CUDA may number the GPUs differently than the driver.

use std::process::Command;

use anyhow::Result;
use tch::Cuda;

use crate::error::RunError;
use crate::messages::counted;
use crate::workers::device::{no_gpu, unknown};

/// The variable that tells CUDA which GPUs a process sees.
pub(crate) const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
/// For tests on machines without a GPU: this many pretended GPUs. Their workers are pinned like others, and compute on
/// the processor.
const PRETENDED: &str = "SAN_PRETENDED_GPUS";

/// For the same tests: the memory of each.
const PRETENDED_MEMORY: &str = "SAN_PRETENDED_GPU_MEMORY";

/// A GPU, or a part of one (MIG).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// What `CUDA_VISIBLE_DEVICES` calls it: its UUID, or its number where the UUID is not known.
    pub id: String,
    /// Its model, as the driver names it; `None` if the driver does not say.
    pub model: Option<String>,
    /// Its memory, bytes; `None` if the driver does not say.
    pub memory: Option<u64>,
    /// Whether a test pretends it, and everything is computed on the processor.
    pub is_pretended: bool,
}

impl Gpu {
    fn new(id: impl Into<String>, model: Option<String>) -> Self {
        Self { id: id.into(), model, memory: None, is_pretended: false }
    }

    /// Its UUID, if known.
    pub fn uuid(&self) -> Option<&str> {
        is_uuid(&self.id).then_some(&self.id)
    }
}

/// The GPUs that the workers of `--device <device> --gpus <wanted>` use; none for the processor.
///
/// # Errors
/// When the device is unknown, or a GPU that was asked for is not there.
pub fn chosen(device: &str, wanted: Option<&[String]>) -> Result<Vec<Gpu>> {
    let gpus = match device {
        "cpu" if wanted.is_some() => return Err(wrong("--gpus contradicts --device cpu".into())),
        "cpu" => return Ok(Vec::new()),
        "auto" | "cuda" => with_memory(usable()?),
        other => return Err(unknown(other)),
    };
    match wanted {
        _ if gpus.is_empty() && (device == "cuda" || wanted.is_some()) => Err(no_gpu()),
        None => Ok(gpus),
        Some(wanted) => select(&gpus, wanted).map_err(wrong),
    }
}

/// The GPU that this process computes on as CUDA's first, as far as the driver and the environment name it.
pub fn current() -> Option<Gpu> {
    let listed = listed();
    let names = std::env::var(VISIBLE).unwrap_or_else(|_| "0".into());
    visible(&listed, &names, numbers_are_indices(&listed, orders_by_bus())).into_iter().next()
}

/// Whether CUDA numbers GPUs as the driver does, by their place on the bus, also if they are of different models.
fn orders_by_bus() -> bool {
    std::env::var("CUDA_DEVICE_ORDER").is_ok_and(|order| order == "PCI_BUS_ID")
}

/// Whether CUDA's numbers of the GPUs are positions in the driver's list: otherwise CUDA puts the fastest model first, and
/// it counts parts of a GPU in its own way.
fn numbers_are_indices(listed: &[Gpu], by_bus: bool) -> bool {
    let whole = listed.iter().all(|gpu| gpu.id.starts_with("GPU-"));
    whole && (by_bus || listed.iter().all(|gpu| gpu.model == listed[0].model))
}

/// The GPUs that this process may use.
fn usable() -> Result<Vec<Gpu>> {
    if let Ok(number) = std::env::var(PRETENDED) {
        return pretended(&number);
    }
    if !torch_ops::load_cuda() {
        return Ok(Vec::new());
    }
    let (listed, names) = (listed(), std::env::var(VISIBLE).ok());
    Ok(match names {
        None if !listed.is_empty() => listed,
        Some(names) if !listed.is_empty() => {
            visible(&listed, &names, numbers_are_indices(&listed, orders_by_bus()))
        }
        // Without the driver's program, libtorch counts them, as far as the variable allows.
        None => (0..Cuda::device_count()).map(|index| Gpu::new(index.to_string(), None)).collect(),
        Some(names) => {
            let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
            names.split(',').take(count).map(|name| Gpu::new(name.trim(), None)).collect()
        }
    })
}

/// The same GPUs with the memory that the driver says of them; it says nothing of the parts of a GPU.
fn with_memory(gpus: Vec<Gpu>) -> Vec<Gpu> {
    if gpus.iter().all(|gpu| gpu.is_pretended) {
        return gpus;
    }
    let query = ["--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"];
    let output = Command::new("nvidia-smi").args(query).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let sizes = memory_by_uuid(&text);
    let memory = |gpu: &Gpu| sizes.iter().find(|(uuid, _)| *uuid == gpu.id).map(|(_, bytes)| *bytes);
    gpus.into_iter().map(|gpu| Gpu { memory: memory(&gpu), ..gpu }).collect()
}

/// Lines `GPU-..., 81559`: UUID and MiB.
fn memory_by_uuid(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (uuid, mebibytes) = line.split_once(',')?;
        Some((uuid.trim().to_owned(), mebibytes.trim().parse::<u64>().ok()? << 20))
    };
    text.lines().filter_map(line).collect()
}

fn pretended(number: &str) -> Result<Vec<Gpu>> {
    let number: u32 =
        number.parse().map_err(|_| wrong(format!("{PRETENDED}={number} is not a number of GPUs")))?;
    let model = Some(format!("pretended by {PRETENDED}, computing on the processor"));
    let memory =
        std::env::var(PRETENDED_MEMORY).ok().and_then(|size| crate::workers::memory::parse(&size).ok());
    let gpu =
        |index| Gpu { id: format!("pretended-{index}"), model: model.clone(), memory, is_pretended: true };
    Ok((0..number).map(gpu).collect())
}

/// What `nvidia-smi -L` lists; nothing without a driver.
fn listed() -> Vec<Gpu> {
    let output = Command::new("nvidia-smi").arg("-L").output();
    let output = output.ok().filter(|output| output.status.success());
    output.map_or_else(Vec::new, |output| parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Lines `GPU 0: <model> (UUID: GPU-...)`; a GPU that is divided is followed by its parts, lines
/// `  MIG <profile>  Device  0: (UUID: MIG-...)`, and only these can be used.
fn parse(text: &str) -> Vec<Gpu> {
    let mut gpus: Vec<Gpu> = Vec::new();
    let mut whole = None;
    for line in text.lines().map(str::trim) {
        let Some((head, uuid)) = line.split_once("(UUID:") else { continue };
        let uuid = uuid.trim().trim_end_matches(')');
        if let Some(part) = head.strip_prefix("MIG ") {
            if gpus.last().is_some_and(|last| last.id.starts_with("GPU-")) {
                whole = gpus.pop().and_then(|gpu| gpu.model);
            }
            let profile = part.split_whitespace().next().unwrap_or_default();
            let model = whole.as_ref().map(|model| format!("{model} MIG {profile}"));
            gpus.push(Gpu::new(uuid, model));
        } else if let Some((_, model)) = head.split_once(": ") {
            gpus.push(Gpu::new(uuid, Some(model.trim().to_owned())));
        }
    }
    gpus
}

/// The listed GPUs that `CUDA_VISIBLE_DEVICES` names, in its order. As for CUDA, a name that is not valid hides the rest.
fn visible(listed: &[Gpu], names: &str, numbers_are_indices: bool) -> Vec<Gpu> {
    let gpu = |name: &str| -> Option<Gpu> {
        if is_uuid(name) {
            return listed.iter().find(|gpu| gpu.id.starts_with(name)).cloned();
        }
        let index: usize = name.parse().ok()?;
        let gpu = listed.get(index)?;
        Some(if numbers_are_indices { gpu.clone() } else { Gpu::new(name, None) })
    };
    names.split(',').map(|name| gpu(name.trim())).take_while(Option::is_some).flatten().collect()
}

fn is_uuid(name: &str) -> bool {
    name.starts_with("GPU-") || name.starts_with("MIG-")
}

/// The GPUs of `--gpus`: positions among those that this process may use, or the beginnings of UUIDs.
fn select(gpus: &[Gpu], wanted: &[String]) -> Result<Vec<Gpu>, String> {
    let mut selected: Vec<Gpu> = Vec::new();
    for name in wanted.iter().map(|name| name.trim()) {
        let gpu = match name.parse::<usize>() {
            Ok(index) => gpus.get(index),
            Err(_) => gpus.iter().find(|gpu| !name.is_empty() && gpu.id.starts_with(name)),
        };
        let Some(gpu) = gpu else {
            let all = gpus.iter().enumerate().map(|(index, gpu)| match &gpu.model {
                Some(model) => format!("{index} ({model}, {})", gpu.id),
                None => index.to_string(),
            });
            let all = all.collect::<Vec<_>>().join(", ");
            return Err(format!("--gpus {name}: there is no such GPU; there are {all}"));
        };
        if selected.contains(gpu) {
            return Err(format!("--gpus {name}: this GPU is listed twice"));
        }
        selected.push(gpu.clone());
    }
    Ok(selected)
}

/// GPUs in words, `2 GPUs (NVIDIA H100 80GB HBM3)`.
pub(crate) fn in_words(gpus: &[Gpu]) -> String {
    let mut models: Vec<&str> = gpus.iter().filter_map(|gpu| gpu.model.as_deref()).collect();
    models.dedup();
    let models = if models.is_empty() { String::new() } else { format!(" ({})", models.join(", ")) };
    counted(gpus.len(), "GPU") + &models
}

fn wrong(reason: String) -> anyhow::Error {
    RunError::CommandLine { reason }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two equal GPUs, as the driver's documentation prints them.
    const TWO: &str = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)\n\
                       GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b0dc2c91-6c73-4b5b-9c3a-b4c3c0f6a1de)\n";
    /// From NVIDIA's user guide of MIG: one GPU in two parts.
    const DIVIDED: &str = "GPU 0: A100-SXM4-40GB (UUID: GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0)\n  \
                           MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)\n  \
                           MIG 3g.20gb     Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)\n";

    fn ids(gpus: &[Gpu]) -> Vec<&str> {
        gpus.iter().map(|gpu| gpu.id.as_str()).collect()
    }

    #[test]
    fn gpus_and_their_parts_are_listed_by_uuid_and_model() {
        let two = parse(TWO);
        assert_eq!(two[1].uuid(), Some("GPU-b0dc2c91-6c73-4b5b-9c3a-b4c3c0f6a1de"));
        assert_eq!(two[1].model.as_deref(), Some("NVIDIA H100 80GB HBM3"));
        assert_eq!(in_words(&two), "2 GPUs (NVIDIA H100 80GB HBM3)");
        let parts = parse(DIVIDED);
        assert_eq!(parts.len(), 2, "a divided GPU is not usable as a whole");
        assert!(parts.iter().all(|part| part.uuid().is_some_and(|uuid| uuid.starts_with("MIG-"))));
        assert_eq!(parts[0].model.as_deref(), Some("A100-SXM4-40GB MIG 3g.20gb"));
        let after = parse(&format!("{DIVIDED}{TWO}"));
        assert_eq!(after.len(), 4, "{after:?}");
        assert!(parse("No devices were found\n").is_empty());
        let sizes = memory_by_uuid("GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, 81559\nGPU-b0dc, [N/A]\n");
        assert_eq!(sizes, [(two[0].id.clone(), 81_559 << 20)]);
    }

    #[test]
    fn the_variable_hides_gpus_as_it_does_for_cuda() {
        let two = parse(TWO);
        let seen = |names| visible(&two, names, true);
        assert_eq!(seen("1,0"), [two[1].clone(), two[0].clone()]);
        assert_eq!(seen("GPU-b0dc"), [two[1].clone()], "a UUID may be abbreviated");
        assert_eq!(seen("1,-1,0"), [two[1].clone()], "an invalid number hides the rest");
        for hidden in ["", "-1", "NoDevFiles", "7", "GPU-ffff"] {
            assert!(seen(hidden).is_empty(), "{hidden:?}");
        }
        // Of different models the fastest has number 0: only CUDA knows which that is.
        let mut mixed = two.clone();
        assert!(numbers_are_indices(&mixed, false));
        mixed[0].model = Some("Quadro P400".into());
        assert!(!numbers_are_indices(&mixed, false) && numbers_are_indices(&mixed, true));
        assert!(!numbers_are_indices(&parse(DIVIDED), true));
        let unknown = visible(&two, "1", false);
        assert_eq!((ids(&unknown), &unknown[0].model), (vec!["1"], &None));
    }

    #[test]
    fn gpus_are_selected_by_position_or_uuid() {
        // Positions refer to what is visible, as for every program that runs on CUDA.
        let gpus = visible(&parse(TWO), "1,0", true);
        let selected = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            select(&gpus, &names)
        };
        assert_eq!(ids(&selected(&["0"]).unwrap()), ["GPU-b0dc2c91-6c73-4b5b-9c3a-b4c3c0f6a1de"]);
        assert_eq!(selected(&["1", "0"]).unwrap(), [gpus[1].clone(), gpus[0].clone()]);
        assert_eq!(selected(&["GPU-5d5"]).unwrap(), [gpus[1].clone()]);
        assert!(selected(&["2"]).unwrap_err().contains("there are 0 (NVIDIA H100"));
        assert!(selected(&[""]).is_err() && selected(&["GPU-ffff"]).is_err());
        assert!(selected(&["0", "GPU-b0dc"]).unwrap_err().contains("listed twice"));
    }
}

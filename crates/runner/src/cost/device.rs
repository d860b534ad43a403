//! What is known of devices before anything is measured on them: their peaks, and the share of them that training
//! reaches.

use crate::cost::work::Work;
use crate::tasks::Precision;

/// The share of a GPU's peak that products of image models reach, and those of language models: ViT-B/16 with bf16 at 64
/// to 256 images trains at 15 to 26 % of an H200's, LLaMA-7B at 42 %. In f32 both reach half.
const IMAGES_SHARE: f64 = 0.2;
const TEXTS_SHARE: f64 = 0.42;
const F32_SHARE: f64 = 0.5;
/// Seconds of a projection's launches in a forward pass on a GPU: a step of LoRA on ViT-S takes 35 ms however few images
/// it has, and a token of LLaMA-7B 13 ms.
const GPU_LAUNCH: f64 = 60e-6;
/// The same on a processor, where it is time of the core that also computes.
const CPU_LAUNCH: f64 = 20e-6;
/// Operations a second that products reach on a core in training: half of what one with AVX-512 reaches (docs/speed.md).
const CPU_SPEED: f64 = 6e10;
/// Bytes a second of a processor's memory, for one core.
const CPU_BANDWIDTH: f64 = 8e9;
/// Bytes a second of weights that are read from a disk.
const DISK_BANDWIDTH: f64 = 1e9;
/// Seconds to open the data of a group, allocate what it trains and write its files.
const GPU_GROUP_START: f64 = 3.0;
const CPU_GROUP_START: f64 = 0.1;
/// Seconds until a worker's first group: the program and libtorch, on a GPU with CUDA's context.
const GPU_PROCESS_START: f64 = 15.0;
const CPU_PROCESS_START: f64 = 0.3;
/// Seconds of one thread to decode and resize a photograph of 0.2 megapixels. Not measured for the sets of a plan.
const DECODE: f64 = 4e-3;

/// Published peaks of a GPU: dense products without sparsity, and its memory.
struct Gpu {
    /// How an argument names it; the driver's name contains it too.
    name: &'static str,
    /// 1e12 operations a second in bf16, tf32 and f32.
    teraflops: [f64; 3],
    /// 1e12 bytes a second.
    bandwidth: f64,
    /// Bytes of memory, in units of 2^30.
    memory: u64,
}

const GPUS: [Gpu; 6] = [
    Gpu { name: "A100", teraflops: [312.0, 156.0, 19.5], bandwidth: 2.0, memory: 80 },
    Gpu { name: "H100", teraflops: [989.0, 494.0, 67.0], bandwidth: 3.35, memory: 80 },
    Gpu { name: "H200", teraflops: [989.0, 494.0, 67.0], bandwidth: 4.8, memory: 141 },
    Gpu { name: "B200", teraflops: [2250.0, 1100.0, 75.0], bandwidth: 8.0, memory: 180 },
    Gpu { name: "L40S", teraflops: [362.0, 183.0, 91.6], bandwidth: 0.86, memory: 48 },
    Gpu { name: "RTX 4090", teraflops: [165.0, 82.6, 82.6], bandwidth: 1.0, memory: 24 },
];

/// A kind of device that a group of runs is computed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its model, as records have it without its number.
    pub name: String,
    /// Threads of a worker.
    pub threads: u32,
    /// Where its numbers are from, in words.
    pub source: String,
    /// Whether it is a GPU: launches then go on while it computes.
    pub is_gpu: bool,
    /// Bytes of memory of this model of GPU, if it is known.
    pub memory: Option<u64>,
    /// Operations a second that products of image models reach in bf16, tf32 and f32.
    images: [f64; 3],
    /// The same for language models.
    texts: [f64; 3],
    bandwidth: f64,
    launch: f64,
    group_start: f64,
    process_start: f64,
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Images.
    Images,
    /// Texts.
    Texts,
}

impl Device {
    /// A GPU by its model, as the driver or an argument names it; `None` if it is not known. `threads` decode for it.
    pub fn gpu(model: &str, threads: u32) -> Option<Self> {
        let letters = |text: &str| text.to_uppercase().replace([' ', '-', '_'], "");
        let gpu = GPUS.iter().find(|gpu| letters(model).contains(&letters(gpu.name)))?;
        let speeds = |share: f64| {
            let [bf16, tf32, f32] = gpu.teraflops;
            [bf16 * share, tf32 * share, f32 * F32_SHARE].map(|teraflops| teraflops * 1e12)
        };
        Some(Self {
            name: model.to_owned(),
            threads,
            source: format!("built-in speeds of {}, not measured with this program", gpu.name),
            is_gpu: true,
            memory: Some(gpu.memory << 30),
            images: speeds(IMAGES_SHARE),
            texts: speeds(TEXTS_SHARE),
            bandwidth: gpu.bandwidth * 1e12,
            launch: GPU_LAUNCH,
            group_start: GPU_GROUP_START,
            process_start: GPU_PROCESS_START,
        })
    }

    /// A GPU of which nothing is known but its name, if that: as fast as an A100.
    pub fn other_gpu(model: &str, threads: u32) -> Self {
        let a100 = &GPUS[0];
        let source = format!("speeds of {}, since nothing is known of {model}", a100.name);
        let like = Self::gpu(a100.name, threads);
        like.map_or_else(
            || Self::processor(model.to_owned(), threads),
            |device| Self { name: model.to_owned(), source, memory: None, ..device },
        )
    }

    /// Names of the GPUs that are known.
    pub fn known_gpus() -> impl Iterator<Item = &'static str> {
        GPUS.iter().map(|gpu| gpu.name)
    }

    /// A processor, of whose speed nothing is known.
    pub fn processor(name: String, threads: u32) -> Self {
        let speeds = [CPU_SPEED * f64::from(threads.max(1)); 3];
        Self {
            name,
            threads,
            source: "built-in speed of a core, not measured on this one".into(),
            is_gpu: false,
            memory: None,
            images: speeds,
            texts: speeds,
            bandwidth: CPU_BANDWIDTH,
            launch: CPU_LAUNCH,
            group_start: CPU_GROUP_START,
            process_start: CPU_PROCESS_START,
        }
    }

    /// Seconds of some work by the built-in model.
    pub fn seconds(&self, work: Work, precision: Precision, family: Family) -> f64 {
        let speeds = match family {
            Family::Images => self.images,
            Family::Texts => self.texts,
        };
        let speed = match precision {
            Precision::Bf16 => speeds[0],
            Precision::Tf32 => speeds[1],
            Precision::F32 => speeds[2],
        };
        let (computing, launching) = (2.0 * work.macs / speed, work.launches * self.launch);
        let moving = work.bytes / self.bandwidth;
        if self.is_gpu { computing.max(launching).max(moving) } else { computing + launching + moving }
    }

    /// Seconds that a worker's threads need to decode images.
    pub fn decoding(&self, images: f64) -> f64 {
        images * DECODE / f64::from(self.threads.max(1))
    }

    /// Seconds of a group's beginning and end.
    pub fn group_start(&self) -> f64 {
        self.group_start
    }

    /// Seconds until a worker has read weights of this size.
    pub fn process_start(&self, weight_bytes: f64) -> f64 {
        self.process_start + weight_bytes / DISK_BANDWIDTH
    }

    /// The same device at made-up speeds, for tests of arithmetic.
    #[cfg(test)]
    pub(super) fn of_speed(operations: f64, launch: f64) -> Self {
        let speeds = [operations; 3];
        Self {
            name: "test".into(),
            threads: 1,
            source: "test".into(),
            is_gpu: false,
            memory: None,
            images: speeds,
            texts: speeds,
            bandwidth: 1e9,
            launch,
            group_start: 0.0,
            process_start: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vit_base_step(images: f64, products: f64) -> Work {
        Work { macs: images * products * 17.58e9, launches: 48.0 * 8.0, bytes: 0.0 }
    }

    #[test]
    fn an_h200_trains_at_the_speeds_that_its_shares_were_taken_from() {
        let h200 = Device::gpu("cuda(0): NVIDIA H200", 8).unwrap();
        let per_second = |images: f64, work| images / h200.seconds(work, Precision::Bf16, Family::Images);
        // Full fine-tuning 2,470 images a second, LoRA on four runs 2,867.
        let fft = per_second(64.0, vit_base_step(64.0, 3.0));
        assert!((1_700.0..3_000.0).contains(&fft), "{fft}");
        let lora = per_second(256.0, vit_base_step(256.0, 2.0));
        assert!((2_200.0..3_600.0).contains(&lora), "{lora}");
        // LLaMA-7B with LoRA 15,663 tokens a second.
        let work = Work { macs: 4096.0 * 2.0 * 6.7e9, launches: 224.0 * 8.0, bytes: 0.0 };
        let tokens = 4096.0 / h200.seconds(work, Precision::Bf16, Family::Texts);
        assert!((13_000.0..18_000.0).contains(&tokens), "{tokens}");
    }

    #[test]
    fn gpus_are_known_by_the_names_of_the_driver_and_of_arguments() {
        for name in ["H100", "NVIDIA H100 80GB HBM3", "a100", "NVIDIA A100-SXM4-40GB", "RTX-4090"] {
            assert!(Device::gpu(name, 8).is_some(), "{name}");
        }
        assert!(Device::gpu("K80", 8).is_none());
    }

    #[test]
    fn on_a_processor_parts_of_the_work_add_up_and_on_a_gpu_the_largest_counts() {
        let work = Work { macs: 1e9, launches: 100.0, bytes: 1e9 };
        let processor = Device::of_speed(1e9, 0.01);
        assert!((processor.seconds(work, Precision::F32, Family::Images) - 4.0).abs() < 1e-9);
        let gpu = Device { is_gpu: true, ..processor };
        assert!((gpu.seconds(work, Precision::F32, Family::Images) - 2.0).abs() < 1e-9);
    }
}

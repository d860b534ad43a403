//! Configurations by name: published ones under timm's names, and the bundled micro models.

use std::sync::Arc;

use san_core::error::did_you_mean;

use crate::language::LanguageArchitecture;
use crate::language::decoder;
use crate::language::llama::llama;
use crate::vision::timm::{self, PretrainedConfig};
use crate::vision::{self, convnext, swin, vit};
use crate::vlm::llava;
use crate::{Architecture, Error};

/// Where a configuration's weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Trained by this project on generated images; compiled into the program.
    Bundled(&'static [u8]),
    /// A file `<name>/model.safetensors` under `SAN_WEIGHTS`.
    File,
}

/// Created by `san pretrain vit_micro`.
const VIT_MICRO: &[u8] = include_bytes!("../../../assets/vit_micro.safetensors");

/// Created by `san pretrain swin_micro --steps 16000`.
const SWIN_MICRO: &[u8] = include_bytes!("../../../assets/swin_micro.safetensors");
/// Created by `san pretrain convnext_micro`.
const CONVNEXT_MICRO: &[u8] = include_bytes!("../../../assets/convnext_micro.safetensors");

/// Created by `san pretrain llama_micro --steps 18000 --batch-size 24 --learning-rate 3e-3`; its vocabulary by
/// tools/micro_tokenizer.py.
const LLAMA_MICRO: BundledLanguage = BundledLanguage {
    weights: include_bytes!("../../../assets/llama_micro.safetensors"),
    vocabulary: include_bytes!("../../../assets/llama_micro.tokenizer.json"),
};

/// Created by `san pretrain llava_micro --steps 3000 --batch-size 128 --learning-rate 4e-3` on a GPU, then,
/// starting from that file, by `--from <file> --steps 800 --batch-size 128 --learning-rate 2e-3` on a CPU.
const LLAVA_MICRO: &[u8] = include_bytes!("../../../assets/llava_micro.safetensors");

/// The files of a bundled language model.
#[derive(Debug, Clone, Copy)]
pub struct BundledLanguage {
    /// Weights, safetensors.
    pub weights: &'static [u8],
    /// Vocabulary, `tokenizer.json`.
    pub vocabulary: &'static [u8],
}

/// The bundled language model of that name and its files.
pub fn bundled_language(name: &str) -> Option<(Arc<dyn LanguageArchitecture>, BundledLanguage)> {
    (name == "llama_micro").then(|| (llama_micro(), LLAMA_MICRO))
}

/// The files of a bundled LLaVA.
#[derive(Debug, Clone, Copy)]
pub struct BundledLlava {
    /// The bundled backbone used as its tower.
    pub tower: &'static str,
    /// The bundled language model that it was initialised from and whose vocabulary it uses.
    pub language: &'static str,
    /// Weights of the projector and the language model, safetensors.
    pub weights: &'static [u8],
}

/// The bundled LLaVA of that name and its files.
pub fn bundled_llava(name: &str) -> Option<(llava::Architecture, BundledLlava)> {
    let language = llama_micro();
    // The first id outside the vocabulary.
    let image_token = language.vocabulary();
    let architecture = llava::Architecture { tower: Box::new(vit_micro()), language, image_token };
    let files = BundledLlava { tower: "vit_micro", language: "llama_micro", weights: LLAVA_MICRO };
    (name == "llava_micro").then_some((architecture, files))
}

/// The bundled LLaMA: grouped-query attention, tied output embedding.
fn llama_micro() -> Arc<dyn LanguageArchitecture> {
    Arc::new(llama(decoder::Config {
        num_key_value_heads: Some(2),
        max_position_embeddings: 512,
        tie_word_embeddings: true,
        ..decoder::Config::new(96, 256, 4, 4, 1024)
    }))
}

/// The sizes of a published language model that is known by name, before its folder is there.
pub fn published_language(name: &str) -> Option<Arc<dyn LanguageArchitecture>> {
    let seven = || decoder::Config::new(4096, 11_008, 32, 32, 32_000);
    let config = match name {
        "llama-7b" => seven(),
        "llama2-7b" | "vicuna-7b-v1.5" => decoder::Config { max_position_embeddings: 4096, ..seven() },
        "llama-13b" => decoder::Config::new(5120, 13_824, 40, 40, 32_000),
        "llama3-8b" => decoder::Config {
            num_key_value_heads: Some(8),
            max_position_embeddings: 8192,
            rope_theta: 5e5,
            rms_norm_eps: 1e-5,
            ..decoder::Config::new(4096, 14_336, 32, 32, 128_256)
        },
        "SmolLM2-135M-Instruct" => decoder::Config {
            num_key_value_heads: Some(3),
            max_position_embeddings: 8192,
            rope_theta: 1e5,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
            ..decoder::Config::new(576, 1536, 30, 9, 49_152)
        },
        _ => return None,
    };
    Some(Arc::new(llama(config)))
}

/// A named model.
#[derive(Debug)]
pub struct Entry {
    /// Name in experiment files and of its folder under `SAN_WEIGHTS`.
    pub name: &'static str,
    /// Where its weights come from.
    pub origin: Origin,
    /// The configuration.
    pub architecture: Box<dyn Architecture>,
}

/// Every model.
pub fn entries() -> Vec<Entry> {
    let mut entries = vec![
        Entry { name: "vit_micro", origin: Origin::Bundled(VIT_MICRO), architecture: Box::new(vit_micro()) },
        Entry {
            name: "swin_micro",
            origin: Origin::Bundled(SWIN_MICRO),
            architecture: Box::new(swin_micro()),
        },
        Entry {
            name: "convnext_micro",
            origin: Origin::Bundled(CONVNEXT_MICRO),
            architecture: Box::new(convnext_micro()),
        },
    ];
    let file = |(name, architecture)| Entry { name, origin: Origin::File, architecture };
    entries.extend(vision::PUBLISHED.iter().flat_map(|published| published()).map(file));
    entries
}

/// The bundled ViT: 32 px in 16 patches, small enough for two hundred training runs in ten minutes.
fn vit_micro() -> vit::Config {
    vit::Config::new(32, 8, 64, 6, 4)
}

/// The bundled Swin: 8 x 8 tokens in four windows, then 4 x 4 tokens in one.
fn swin_micro() -> swin::Config {
    swin::Config::new(32, 48, &[2, 4], &[3, 6], 4)
}

/// The bundled ConvNeXt: 8 x 8 pixels after the stem, 1 at the end.
fn convnext_micro() -> convnext::Config {
    // A LayerScale initialised near zero needs longer training than a bundled model gets.
    let config = convnext::Config::new(32, [2, 2, 3, 1], [32, 64, 96, 160]);
    convnext::Config { ls_init_value: Some(0.1), ..config }
}

/// The input that the weights of a model were trained on; `None` for a model that is not known by name.
pub fn pretrained(name: &str) -> Option<PretrainedConfig> {
    let published = timm::pretrained(name);
    let others = || match name {
        // `san pretrain` draws images of that size.
        "vit_micro" | "swin_micro" | "convnext_micro" => Some(squash(32, "bilinear", [0.5; 3], [0.5; 3])),
        // DINO's.
        "vit_small_patch14_imgfocus" => {
            Some(squash(224, "bicubic", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        }
        // `preprocessor_config.json` of its folder.
        "clip-vit-large-patch14-336" => Some(PretrainedConfig {
            crop_mode: "center".into(),
            ..squash(
                336,
                "bicubic",
                [0.481_454_66, 0.457_827_5, 0.408_210_73],
                [0.268_629_54, 0.261_302_6, 0.275_777_1],
            )
        }),
        _ => None,
    };
    published.or_else(others)
}

/// The input of a model whose images were resized without keeping their aspect ratio.
fn squash(size: i64, interpolation: &str, mean: [f64; 3], std: [f64; 3]) -> PretrainedConfig {
    let (interpolation, crop_mode) = (interpolation.to_owned(), "squash".to_owned());
    PretrainedConfig { input_size: [3, size, size], interpolation, crop_pct: 1.0, crop_mode, mean, std }
}

/// The model of that name.
///
/// # Errors
/// If there is none; the error suggests the nearest name.
pub fn find(name: &str) -> Result<Entry, Error> {
    let mut entries = entries();
    match entries.iter().position(|entry| entry.name == name) {
        Some(place) => Ok(entries.swap_remove(place)),
        None => {
            let hint = did_you_mean(name, entries.iter().map(|entry| entry.name));
            Err(Error::UnknownBackbone { name: name.into(), hint })
        }
    }
}

//! Multiply-accumulates of models against published counts: timm's and torchvision's for images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use backbones::language::LanguageArchitecture;
use backbones::language::decoder;
use backbones::language::llama::llama;
use backbones::registry;
use backbones::workload::{Tokens, Workload};

fn of_images(name: &str) -> f64 {
    let architecture = registry::find(name).unwrap().architecture;
    architecture.workload().macs(&architecture.model_spec(name))
}

fn assert_close(found: f64, published: f64, what: &str) {
    assert!((found / published - 1.0).abs() < 0.02, "{what}: {found:.4e}, published {published:.4e}");
}

#[test]
fn image_models_have_the_published_numbers_of_multiply_accumulates() {
    for (name, giga) in [
        ("vit_tiny_patch16_224.augreg_in21k", 1.26),
        ("vit_small_patch16_224.augreg_in21k", 4.61),
        ("vit_base_patch16_224.augreg_in21k", 17.58),
        ("vit_large_patch16_224.augreg_in21k", 61.60),
        ("swin_tiny_patch4_window7_224.ms_in22k", 4.51),
        ("swin_base_patch4_window7_224.ms_in22k", 15.47),
        ("convnext_base.fb_in22k", 15.36),
        ("clip-vit-large-patch14-336", 191.1),
    ] {
        assert_close(of_images(name), giga * 1e9, name);
    }
}

#[test]
fn a_token_of_a_language_model_costs_one_multiply_accumulate_per_weight_and_its_attention() {
    let model = llama(decoder::Config::new(4096, 11_008, 32, 32, 32_000));
    let spec = model.model_spec("llama-7b");
    let per_token = |length: f64| model.workload(Tokens::text(length, length)).macs(&spec) / length;
    // Every weight but those of the input embedding and the norms.
    let weights = spec.parameters() - 32_000 * 4096 - 65 * 4096;
    assert_close(per_token(1.0), weights as f64, "one token");
    assert_close(per_token(1.0), 6.6e9, "one token");
    // On average a token of 2,048 attends to 1,024.5, in 32 layers of 4,096 channels.
    let attention = 2.0 * 1024.5 * 4096.0 * 32.0;
    assert!((per_token(2048.0) - weights as f64 - attention).abs() < 1.0);
}

#[test]
fn generating_with_a_cache_costs_what_the_whole_text_costs() {
    let model = llama(decoder::Config::new(96, 256, 4, 4, 1024));
    let spec = model.model_spec("small");
    let macs = |tokens| model.workload(tokens).macs(&spec);
    let (prompt, new) = (30.0, 12.0);
    let in_parts = macs(Tokens::text(prompt, 0.0)) + macs(Tokens::generated(prompt, new));
    assert!((in_parts - macs(Tokens::text(prompt + new, new))).abs() < 1.0);
}

#[test]
fn every_site_of_every_model_is_counted_once() {
    for entry in registry::entries() {
        let Workload { positions, .. } = entry.architecture.workload();
        let spec = entry.architecture.model_spec(entry.name);
        let mut sites: Vec<&str> = spec.sites.iter().map(|site| site.name.as_str()).collect();
        sites.sort_unstable();
        assert_eq!(positions.keys().map(String::as_str).collect::<Vec<_>>(), sites, "{}", entry.name);
        assert!(positions.values().all(|positions| *positions >= 1.0), "{}", entry.name);
    }
    let llama = registry::bundled_language("llama_micro").unwrap().0;
    let sites = llama.model_spec("llama_micro").sites.len();
    assert_eq!(llama.workload(Tokens::text(3.0, 3.0)).positions.len(), sites);
}

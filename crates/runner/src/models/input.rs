//! The input that a model's weights were trained on, for protocols that do not give it.

use std::path::Path;

use anyhow::Result;
use backbones::registry;
use backbones::vision::timm::PretrainedConfig;
use backbones::weights::{self, Published};
use data_loaders::{CropShare, Filter, ImageProtocol, Normalisation, Resize};
use serde::Deserialize;

use crate::error::RunError;
use crate::models::backbone::RANDOM;
use crate::models::place;

/// The input of the image model `name`: from its folder's `config.json`, or the registry's.
///
/// # Errors
/// When neither says it, or it is of a kind that is not supported; the experiment must give it then.
pub fn of_model(name: &str, root: Option<&Path>) -> Result<ImageProtocol> {
    let published = name.strip_suffix(RANDOM).unwrap_or(name);
    if let Some((tower, _)) = published.split_once('+') {
        return of_model(tower, root);
    }
    if let Some((_, files)) = registry::bundled_llava(published) {
        return of_model(files.tower, root);
    }
    let unknown = |reason: String| RunError::UnknownInput { backbone: name.to_owned(), reason };
    let config = match registry::pretrained(published) {
        Some(known) => known,
        None => {
            let folder = place::of_model(published, root)?;
            let found = match weights::architecture(&folder)? {
                Published::Vision(model) => {
                    model.pretrained.ok_or("its config.json has no `pretrained_cfg`".into())
                }
                Published::Llava(_) => preprocessor(&folder),
                Published::Language(_) => Err("it takes no images".into()),
            };
            found.map_err(unknown)?
        }
    };
    Ok(protocol(&config).map_err(unknown)?)
}

/// The input of a published LLaVA, from the configuration of transformers' image processor.
fn preprocessor(folder: &Path) -> Result<PretrainedConfig, String> {
    let path = folder.join("preprocessor_config.json");
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let Processor { crop_size, image_mean, image_std, resample } =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let size = match crop_size {
        Size::Square(side) => [side, side],
        Size::Sides { height, width } => [height, width],
    };
    // PIL's numbers.
    let interpolation = match resample {
        2 => "bilinear",
        3 => "bicubic",
        other => return Err(format!("{}: `resample` is {other}; 2 and 3 are supported", path.display())),
    };
    Ok(PretrainedConfig {
        input_size: [3, size[0], size[1]],
        interpolation: interpolation.into(),
        crop_pct: 1.0,
        crop_mode: "center".into(),
        mean: image_mean,
        std: image_std,
    })
}

/// Fields of `preprocessor_config.json`.
#[derive(Deserialize)]
struct Processor {
    crop_size: Size,
    image_mean: [f64; 3],
    image_std: [f64; 3],
    resample: u8,
}

/// A size, in the form of older and of newer versions of transformers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Square(i64),
    Sides { height: i64, width: i64 },
}

fn protocol(config: &PretrainedConfig) -> Result<ImageProtocol, String> {
    let PretrainedConfig { input_size: [_, height, width], interpolation, crop_pct, crop_mode, mean, std } =
        config;
    if height != width {
        return Err(format!("`input_size` is {height} x {width}, which is not a square"));
    }
    let filter = match interpolation.as_str() {
        "bicubic" => Filter::Bicubic,
        "bilinear" => Filter::Bilinear,
        other => return Err(format!("`interpolation` is {other}; bilinear and bicubic are supported")),
    };
    let resize = match crop_mode.as_str() {
        "center" => Resize::TimmEval { crop_pct: CropShare::try_from(*crop_pct)? },
        #[allow(clippy::float_cmp, reason = "the number is written, not computed")]
        "squash" if *crop_pct == 1.0 => Resize::Plain,
        other => {
            return Err(format!("`crop_mode` is {other} with `crop_pct` {crop_pct}, which is not supported"));
        }
    };
    let normalisation = Normalisation::of(*mean, *std)?;
    Ok(ImageProtocol {
        image_size: u32::try_from(*height).map_err(|error| error.to_string())?,
        resize,
        filter,
        normalisation,
    })
}

#[cfg(test)]
mod tests {
    use backbones::vision::timm;

    use super::*;

    #[test]
    fn the_registry_knows_the_input_of_every_image_model() {
        for entry in registry::entries() {
            let found = of_model(entry.name, None).unwrap();
            let size = entry.architecture.image_size();
            assert_eq!(i64::from(found.image_size), size, "{}", entry.name);
        }
        let vit = of_model("vit_base_patch16_224.augreg_in21k@random", None).unwrap();
        let resize = Resize::TimmEval { crop_pct: CropShare::try_from(0.9).unwrap() };
        assert_eq!((vit.resize, vit.normalisation), (resize, Normalisation::Half));
        assert_eq!(of_model("vit_micro", None).unwrap().resize, Resize::Plain);
    }

    #[test]
    fn a_llava_says_its_input_in_the_configuration_of_its_image_processor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preprocessor_config.json");
        // Fields of llava-hf/llava-1.5-7b-hf.
        let text = r#"{"crop_size": {"height": 336, "width": 336}, "do_center_crop": true, "resample": 3,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 336}}"#;
        std::fs::write(&path, text).unwrap();
        let found = protocol(&preprocessor(folder.path()).unwrap()).unwrap();
        assert_eq!(
            (found.image_size, found.filter, found.normalisation),
            (336, Filter::Bicubic, Normalisation::Clip)
        );
        std::fs::write(&path, text.replace("\"resample\": 3", "\"resample\": 1")).unwrap();
        assert!(preprocessor(folder.path()).unwrap_err().contains("`resample` is 1"));
        std::fs::remove_file(&path).unwrap();
        assert!(preprocessor(folder.path()).unwrap_err().contains("preprocessor_config.json"));
    }

    #[test]
    fn inputs_that_cannot_be_followed_are_refused() {
        let usual = timm::pretrained("convnext_base.fb_in22k").unwrap();
        for (config, reason) in [
            (PretrainedConfig { interpolation: "lanczos".into(), ..usual.clone() }, "lanczos"),
            (PretrainedConfig { crop_mode: "border".into(), ..usual.clone() }, "border"),
            (PretrainedConfig { input_size: [3, 224, 256], ..usual.clone() }, "square"),
            (PretrainedConfig { std: [0.0; 3], ..usual.clone() }, "standard deviation"),
            (PretrainedConfig { crop_pct: 0.0, ..usual }, "crop share"),
        ] {
            let refused = protocol(&config).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}

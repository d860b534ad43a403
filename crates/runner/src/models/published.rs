//! Where published weights come from: their official sources, from which `san fetch` downloads them into
//! `SAN_WEIGHTS/<backbone>/`.

use std::path::Path;

use backbones::registry::{self, Origin};
use backbones::weights;
use data_loaders::{Distribution, Download, Fault};
use serde::de::IgnoredAny;

/// The site of most weights; `HF_TOKEN` is sent only to it.
pub const HUB: &str = "https://huggingface.co";
/// Where timm's authors host the weights of a model, under its name.
const TIMM: &str = "https://huggingface.co/timm";

/// A model and its source, if that is not timm.
struct Home {
    name: &'static str,
    /// Address of the folder that holds the files.
    folder: &'static str,
    /// The files; empty if they have to be downloaded manually.
    files: &'static [&'static str],
    /// What the user has to do in that case.
    manual: Option<&'static str>,
}

const SAFETENSORS: &[&str] = &["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

const GATED: &str = "it is gated: accept its terms on the Hugging Face Hub, then download config.json, the tokenizer's files and all *.safetensors into the folder of that name under SAN_WEIGHTS";

const PICKLED: &str = "it is published as pickles, which are refused: save it as model.safetensors (transformers: from_pretrained, then save_pretrained) in the folder of that name under SAN_WEIGHTS, together with config.json and the vocabulary, if there is one";

const HOMES: &[Home] = &[
    Home {
        name: "SmolLM2-135M-Instruct",
        folder: "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main",
        files: SAFETENSORS,
        manual: None,
    },
    Home {
        name: "llama-7b",
        folder: "https://huggingface.co/huggyllama/llama-7b",
        files: &[],
        manual: Some(GATED),
    },
    Home {
        name: "llama2-7b",
        folder: "https://huggingface.co/meta-llama/Llama-2-7b-hf",
        files: &[],
        manual: Some(GATED),
    },
    Home {
        name: "llama3-8b",
        folder: "https://huggingface.co/meta-llama/Meta-Llama-3-8B",
        files: &[],
        manual: Some(GATED),
    },
    Home {
        name: "vicuna-7b-v1.5",
        folder: "https://huggingface.co/lmsys/vicuna-7b-v1.5",
        files: &[],
        manual: Some(PICKLED),
    },
    Home {
        name: "clip-vit-large-patch14-336",
        folder: "https://huggingface.co/openai/clip-vit-large-patch14-336",
        files: &[],
        manual: Some(PICKLED),
    },
];

/// The files of a backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedWeights {
    name: String,
    files: Vec<Download>,
    manual: Option<String>,
    /// The page with the model's description and licence.
    pub home: String,
}

impl PublishedWeights {
    /// What can be fetched.
    pub fn distribution(&self) -> Distribution<'_> {
        Distribution {
            name: &self.name,
            folder: &self.name,
            sources: &self.files,
            terms: None,
            manual: self.manual.as_deref(),
        }
    }
}

/// The published weights of that name; `None` if there are none, or if they are bundled with the program.
pub fn published_weights(name: &str) -> Option<PublishedWeights> {
    let file = |url: String| Download { url, size: None, sha256: None, md5: None };
    if let Some(home) = HOMES.iter().find(|home| home.name == name) {
        let page = home.folder.trim_end_matches("/resolve/main").to_owned();
        return Some(PublishedWeights {
            name: name.to_owned(),
            files: home.files.iter().map(|one| file(format!("{}/{one}", home.folder))).collect(),
            manual: home.manual.map(|manual| format!("{page}: {manual}")),
            home: page,
        });
    }
    // timm distinguishes the weights of one model by the part of the name after the dot.
    let known = registry::find(name).ok().filter(|entry| matches!(entry.origin, Origin::File));
    known.filter(|_| name.contains('.')).map(|_| PublishedWeights {
        name: name.to_owned(),
        files: vec![file(format!("{TIMM}/{name}/resolve/main/model.safetensors"))],
        manual: None,
        home: format!("{TIMM}/{name}"),
    })
}

/// Checks a folder of weights that was just downloaded: headers and lists of files match the files, and files named
/// JSON contain JSON.
///
/// # Errors
/// With the first file that does not match its name.
pub fn inspect(folder: &Path) -> Result<(), Fault> {
    let whole = |error: std::io::Error| Fault { file: ".".to_owned(), reason: error.to_string() };
    let entries = std::fs::read_dir(folder).map_err(whole)?.collect::<Result<Vec<_>, _>>().map_err(whole)?;
    let mut names: Vec<_> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for file in names {
        let path = folder.join(&file);
        let found = if file.ends_with(".safetensors") || file == weights::INDEX {
            // The folder is temporary; its name would not help the user.
            let prefix = format!("{}/", folder.display());
            weights::inspect(&path).map_err(|error| error.to_string().replace(&prefix, ""))
        } else if file.ends_with(".json") {
            json(&path)
        } else {
            Ok(())
        };
        found.map_err(|reason| Fault { file, reason })?;
    }
    Ok(())
}

fn json(path: &Path) -> Result<(), String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice::<IgnoredAny>(&text).map(drop).map_err(|error| format!("it is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file with a single f32.
    fn tensors(name: &str) -> Vec<u8> {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat()
    }

    /// The result of inspecting these files.
    fn said(files: &[(&str, &[u8])]) -> Result<(), Fault> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let result = inspect(folder.path());
        if let Err(fault) = &result {
            assert!(!fault.reason.contains(folder.path().to_str().unwrap()), "{fault:?}");
        }
        result
    }

    #[test]
    fn weights_that_are_cut_short_empty_or_pickled_do_not_pass() {
        let whole = tensors("a");
        assert_eq!(
            said(&[("model.safetensors", &whole), ("config.json", b"{}"), ("vocab.txt", b"")]),
            Ok(())
        );
        for bytes in [
            &b"ten bytes."[..],
            b"\x02\0\0\0\0\0\0\0{}",
            &whole[..whole.len() - 1],
            &[&whole[..], &[0]].concat(),
            b"PK\x03\x04rest",
            b"",
        ] {
            let fault = said(&[("model.safetensors", bytes), ("config.json", b"{}")]).unwrap_err();
            assert_eq!(fault.file, "model.safetensors", "{fault:?}");
        }
        let fault = said(&[("config.json", b"<html>")]).unwrap_err();
        assert!(fault.file == "config.json" && fault.reason.contains("not JSON"), "{fault:?}");
    }

    #[test]
    fn an_index_with_other_files_or_tensors_is_rejected() {
        let (one, list) = (tensors("a"), weights::INDEX);
        let listed = |text: &str| said(&[("one.safetensors", &one), (list, text.as_bytes())]);
        assert_eq!(listed(r#"{"weight_map": {"a": "one.safetensors"}}"#), Ok(()));
        for (text, word) in [
            (
                r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#,
                "two.safetensors is missing",
            ),
            (
                r#"{"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}"#,
                "it lists the tensor `b`, which `one.safetensors` does not contain",
            ),
            (
                r#"{"weight_map": {"a": "../one.safetensors"}}"#,
                "`../one.safetensors` is not a plain file name",
            ),
            (r#"{"weight_map": {}}"#, "lists no tensors"),
            ("{}", "weight_map"),
        ] {
            let fault = listed(text).unwrap_err();
            assert!(fault.file == list && fault.reason.contains(word), "no `{word}` in {fault:?}");
        }
    }

    fn addresses(name: &str) -> Vec<String> {
        published_weights(name).unwrap().files.into_iter().map(|file| file.url).collect()
    }

    #[test]
    fn vision_models_come_from_timm_and_language_models_with_their_tokenizer() {
        let vit = "vit_base_patch16_224.augreg_in21k";
        assert_eq!(addresses(vit), [format!("{TIMM}/{vit}/resolve/main/model.safetensors")]);
        assert!(addresses("SmolLM2-135M-Instruct").iter().any(|url| url.ends_with("/tokenizer.json")));
        assert!(
            published_weights("llama2-7b").unwrap().distribution().manual.unwrap().contains("meta-llama")
        );
    }

    #[test]
    fn bundled_and_unknown_models_have_no_source() {
        for name in ["vit_micro", "llama_micro", "vit_small_patch14_imgfocus", "nothing", "a.b"] {
            assert_eq!(published_weights(name), None, "{name}");
        }
    }
}

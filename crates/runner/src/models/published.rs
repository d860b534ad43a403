//! Where published weights come from: their official sources, from which `san fetch` downloads them into
//! `SAN_WEIGHTS/<backbone>/`.

use std::path::Path;

use backbones::vision::timm;
use backbones::weights;
use data_loaders::{Distribution, Download, Fault, HUB, HubRepository};
use serde::de::IgnoredAny;

/// Where timm's authors host the weights of a model, under its name.
const TIMM: &str = "timm";

/// A model and its repository on the Hugging Face Hub, if that is not timm's.
struct Home {
    name: &'static str,
    repository: &'static str,
    /// The files; those that the Hub lists if empty.
    files: &'static [&'static str],
    /// Whether the weights are only there as pickles.
    pickled: bool,
    /// What a user should know.
    note: Option<&'static str>,
}

const SAFETENSORS: &[&str] = &["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
const VISION: &[&str] = &["config.json", "model.safetensors"];

const GATED: Option<&str> =
    Some("accept its terms on that page, and set HF_TOKEN to a token that may read the repository");
const PROJECTOR: &str = "llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5";
const PROJECTOR_OF: &str = "clip-vit-large-patch14-336+vicuna-7b-v1.5";
const PROJECTOR_NOTE: Option<&str> = Some(
    "LLaVA's projector after its first stage; converted, it is projector.safetensors in the folder \
     clip-vit-large-patch14-336+vicuna-7b-v1.5",
);

const HOMES: &[Home] = &[
    Home {
        name: "SmolLM2-135M-Instruct",
        repository: "HuggingFaceTB/SmolLM2-135M-Instruct",
        files: SAFETENSORS,
        pickled: false,
        note: None,
    },
    Home { name: "llama-7b", repository: "huggyllama/llama-7b", files: &[], pickled: false, note: None },
    Home { name: "llama-13b", repository: "huggyllama/llama-13b", files: &[], pickled: false, note: None },
    Home {
        name: "llama2-7b",
        repository: "meta-llama/Llama-2-7b-hf",
        files: &[],
        pickled: false,
        note: GATED,
    },
    Home {
        name: "llama3-8b",
        repository: "meta-llama/Meta-Llama-3-8B",
        files: &[],
        pickled: false,
        note: GATED,
    },
    Home {
        name: "vicuna-7b-v1.5",
        repository: "lmsys/vicuna-7b-v1.5",
        files: &[],
        pickled: true,
        note: None,
    },
    Home {
        name: "clip-vit-large-patch14-336",
        repository: "openai/clip-vit-large-patch14-336",
        files: &[],
        pickled: true,
        note: None,
    },
    Home {
        name: "llava-1.5-7b-hf",
        repository: "llava-hf/llava-1.5-7b-hf",
        files: &[],
        pickled: false,
        note: None,
    },
    Home {
        name: PROJECTOR,
        repository: "liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5",
        files: &["config.json", "mm_projector.bin"],
        pickled: true,
        note: PROJECTOR_NOTE,
    },
];

/// The files of a backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedWeights {
    name: String,
    files: Vec<Download>,
    repository: HubRepository,
    /// The page with the model's description and licence.
    pub home: String,
    /// What a user should know.
    pub note: Option<&'static str>,
    /// Whether they are pickles, which are not read and have to be converted.
    pub pickled: bool,
}

impl PublishedWeights {
    /// What can be fetched.
    pub fn distribution(&self) -> Distribution<'_> {
        Distribution {
            name: &self.name,
            folder: &self.name,
            sources: &self.files,
            repository: Some(&self.repository).filter(|_| self.files.is_empty()),
            sets: &[],
            terms: None,
            manual: None,
        }
    }

    fn new(name: &str, repository: &str, files: &[&str]) -> Self {
        let home = format!("{HUB}/{repository}");
        let file =
            |file: &&str| Download { url: format!("{home}/resolve/main/{file}"), ..Download::default() };
        Self {
            name: name.to_owned(),
            files: files.iter().map(file).collect(),
            repository: HubRepository { id: repository.to_owned(), revision: "main".to_owned() },
            home,
            note: None,
            pickled: false,
        }
    }
}

/// The published weights of that name; `None` if there are none, or if they are bundled with the program.
pub fn published_weights(name: &str) -> Option<PublishedWeights> {
    if let Some(&Home { name, repository, files, note, pickled }) =
        HOMES.iter().find(|home| home.name == name)
    {
        return Some(PublishedWeights { note, pickled, ..PublishedWeights::new(name, repository, files) });
    }
    // timm distinguishes the weights of one model by the part of the name after the dot.
    timm::is_published(name).then(|| PublishedWeights::new(name, &format!("{TIMM}/{name}"), VISION))
}

/// Name under which the projector of a pair of a tower and a language model can be fetched, if it is published.
pub fn published_projector(pair: &str) -> Option<&'static str> {
    (pair == PROJECTOR_OF).then_some(PROJECTOR)
}

/// The command that converts the weights of a folder, if they are pickles, which are not read.
pub fn conversion(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let any = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    (any(".bin") && !any(".safetensors")).then(|| converted(folder))
}

/// The command that converts pickles in this folder.
pub fn converted(folder: &Path) -> String {
    format!("python tools/convert_weights.py {}", folder.display())
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
        let home = format!("{HUB}/timm/{vit}/resolve/main");
        assert_eq!(addresses(vit), [format!("{home}/config.json"), format!("{home}/model.safetensors")]);
        assert!(addresses("SmolLM2-135M-Instruct").iter().any(|url| url.ends_with("/tokenizer.json")));
        let llama = published_weights("llama2-7b").unwrap();
        assert_eq!(llama.distribution().repository.unwrap().id, "meta-llama/Llama-2-7b-hf");
    }

    #[test]
    fn pickles_without_safetensors_are_to_be_converted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(conversion(folder.path()), None);
        std::fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
        let command = format!("python tools/convert_weights.py {}", folder.path().display());
        assert_eq!(conversion(folder.path()), Some(command));
        std::fs::write(folder.path().join("model.safetensors"), "").unwrap();
        assert_eq!(conversion(folder.path()), None);
    }

    #[test]
    fn bundled_and_unknown_models_have_no_source() {
        for name in ["vit_micro", "llama_micro", "vit_small_patch14_imgfocus", "nothing", "a.b"] {
            assert_eq!(published_weights(name), None, "{name}");
        }
    }
}

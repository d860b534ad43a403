//! Checksums of questions, which cover the contents of their images.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::error::DataError;
use crate::io::file_hashes::FileHashes;
use crate::vl::picture::Picture;
use crate::vl::question::Question;

/// blake3 (hex) of the prompts, answers, keys and images of a dataset, by split.
pub(super) fn checksum_of(
    set: &str,
    parts: &[&[Question]],
    hashes: &FileHashes,
) -> Result<String, DataError> {
    let all = parts.iter().copied().flatten().map(|question| &question.picture);
    let pictures = PictureHashes::of(set, all, hashes)?;
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        for Question { prompt, answer, key, picture, .. } in *part {
            update(&mut hasher, prompt.as_bytes());
            // No reader accepts an empty answer, so an absent one is the only empty string here.
            update(&mut hasher, answer.as_deref().unwrap_or_default().as_bytes());
            update(&mut hasher, format!("{key:?}").as_bytes());
            pictures.update(&mut hasher, picture);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// blake3 (hex) of the contents of pictures, in their order; `set` is for messages.
///
/// # Errors
/// If a file cannot be read.
pub fn pictures_checksum(set: &str, pictures: &[Picture], hashes: &FileHashes) -> Result<String, DataError> {
    let files = PictureHashes::of(set, pictures.iter(), hashes)?;
    let mut hasher = blake3::Hasher::new();
    pictures.iter().for_each(|picture| files.update_contents(&mut hasher, picture));
    Ok(hasher.finalize().to_hex().to_string())
}

/// The hashes of the image files of questions; each file is hashed once, however many questions share it.
pub(super) struct PictureHashes<'a>(HashMap<&'a Path, blake3::Hash>);

impl<'a> PictureHashes<'a> {
    pub(super) fn of(
        set: &str,
        pictures: impl Iterator<Item = &'a Picture>,
        hashes: &FileHashes,
    ) -> Result<Self, DataError> {
        let file = |picture: &'a Picture| match picture {
            Picture::File(path) => Some(path.as_path()),
            Picture::Inside(..) | Picture::Pixels(..) => None,
        };
        let files: Vec<&Path> = pictures.filter_map(file).collect::<BTreeSet<_>>().into_iter().collect();
        let found = hashes.of(&files).map_err(|(path, source)| DataError::Read {
            set: set.to_owned(),
            path,
            source,
        })?;
        Ok(Self(files.into_iter().zip(found).collect()))
    }

    pub(super) fn update(&self, hasher: &mut blake3::Hasher, picture: &Picture) {
        update(hasher, picture.file_name().as_bytes());
        self.update_contents(hasher, picture);
    }

    fn update_contents(&self, hasher: &mut blake3::Hasher, picture: &Picture) {
        match picture {
            Picture::File(path) => update(hasher, self.0[path.as_path()].as_bytes()),
            Picture::Inside(_, bytes) | Picture::Pixels(_, bytes) => update(hasher, bytes),
        }
    }
}

/// Adds bytes with their length, so that their boundaries matter.
pub(super) fn update(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

//! What can be downloaded: files with their sizes and checksums, and repositories that list theirs.

use serde::{Deserialize, Serialize};

/// Files that belong together in one folder: those of a dataset, of several or of a published model.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    /// The name, for messages.
    pub name: &'a str,
    /// Name of the folder; `.` for files that go into the folder that contains those of datasets or models.
    pub folder: &'a str,
    /// The downloads.
    pub sources: &'a [Download],
    /// The repository on the Hugging Face Hub that lists the downloads, if there are none above. If there are none in
    /// either, a manual download is required.
    pub repository: Option<&'a HubRepository>,
    /// If not empty, the datasets whose folders the files are.
    pub sets: &'a [SetFolder],
    /// Terms that have to be accepted before a download.
    pub terms: Option<&'a str>,
    /// Manual steps, in addition to the downloads or instead of them.
    pub manual: Option<&'a str>,
}

/// The folder of a dataset in an archive of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFolder {
    /// Name of the dataset.
    pub set: String,
    /// Names that it has in archives.
    pub names: Vec<String>,
    /// Name that it is given.
    pub folder: String,
}

/// A repository of the Hugging Face Hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubRepository {
    /// `owner/name`, below `datasets/` for a dataset.
    pub id: String,
    /// A branch, tag or commit.
    #[serde(default = "main")]
    pub revision: String,
}

fn main() -> String {
    "main".to_owned()
}

impl HubRepository {
    /// Whether it is a dataset and not a model.
    pub fn is_dataset(&self) -> bool {
        self.id.starts_with("datasets/")
    }
}

/// A file to download.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// The official URL.
    pub url: String,
    /// Name of the file, if it is not the last segment of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Path of the folder within that of the dataset that it is unpacked into, if it is not that itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// Size in bytes, if published.
    #[serde(default)]
    pub size: Option<u64>,
    /// Hexadecimal, if published.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Hexadecimal, if published; checked only if there is no SHA-256.
    #[serde(default)]
    pub md5: Option<String>,
}

impl Download {
    /// Name of the file: by default the last segment of the URL.
    pub fn file_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.url.rsplit('/').next().unwrap_or(&self.url))
    }

    /// Returns what is wrong with the entry, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let hashes = [("sha256", &self.sha256, 64), ("md5", &self.md5, 32)];
        for (name, hash, digits) in hashes {
            let Some(hash) = hash else { continue };
            let valid = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if hash.len() != digits || !hash.bytes().all(valid) {
                return Err(format!(
                    "`{hash}` is not a valid {name}: expected {digits} lower-case hexadecimal digits"
                ));
            }
        }
        let name = self.file_name();
        if name.is_empty() || name == "." || name == ".." || name.contains(['?', '/', '\\', '\0']) {
            return Err(format!("`{}` does not end with a file name", self.url));
        }
        let inside = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['\\', '\0']);
        match &self.into {
            Some(folder) if !folder.split('/').all(inside) => {
                Err(format!("`{folder}` is not a folder within that of the data set"))
            }
            _ => Ok(()),
        }
    }
}

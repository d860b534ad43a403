//! Integrity of a record: its own checksum, those of the files next to it, and the hash that names its folder.
//!
//! A flipped bit on a disk, a file copied from another run, or a number edited by hand must not reach a table. A record
//! is therefore written with a checksum of its own text and of every file of its run, and every reader of one of them
//! verifies it first.

use std::path::Path;

use crate::record::{ADAPTER_FILE, CONFIGURATION_FILE, Record, RecordError, SCHEMA, folder_of};

/// The only field that all versions of the schema have.
#[derive(serde::Deserialize)]
struct Version {
    schema: u64,
}

/// The digits that replace a record's checksum while it is computed.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Record {
    /// Reads one record and verifies its checksum.
    ///
    /// # Errors
    /// When the file is missing, is not a record of this schema, or was altered.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let text = std::fs::read(path).map_err(|source| RecordError::Read { path: path.into(), source })?;
        // The version first: a record of a later one may have fields that this one does not know.
        let version: Version = serde_json::from_slice(&text)
            .map_err(|source| RecordError::Parse { path: path.into(), source })?;
        if !(1..=SCHEMA.into()).contains(&version.schema) {
            return Err(RecordError::Schema { path: path.into(), found: version.schema });
        }
        let record: Self = serde_json::from_slice(&text)
            .map_err(|source| RecordError::Parse { path: path.into(), source })?;
        let altered = |reason: &str| RecordError::Altered { path: path.into(), reason: reason.into() };
        match &record.checksum {
            Some(checksum) if checksum_of(&text, checksum).as_ref() != Some(checksum) => {
                return Err(altered("does not match its checksum"));
            }
            None if !record.files.is_empty() => return Err(altered("has no checksum")),
            _ => {}
        }
        Ok(record)
    }

    /// The contents of the record file, including its checksum.
    ///
    /// # Errors
    /// When it does not read back unchanged, because a number is not finite.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let blank = Self { checksum: Some(BLANK.into()), ..self.clone() };
        let mut text = serde_json::to_string_pretty(&blank)?;
        text.push('\n');
        let read: Self = serde_json::from_str(&text)?;
        if read != blank {
            return Err(serde::ser::Error::custom("a number in the record is not finite"));
        }
        let checksum = blake3::hash(text.as_bytes()).to_hex();
        if let Some(place) = text.rfind(BLANK) {
            text.replace_range(place..place + BLANK.len(), &checksum);
        }
        Ok(text.into_bytes())
    }

    /// Reads a file next to the record at `path` and verifies that it is unchanged since the record was written.
    ///
    /// # Errors
    /// When it cannot be read, or its contents have changed since. Records of earlier versions list no files: the files
    /// next to them are read without verification.
    pub fn read_file(&self, path: &Path, name: &str) -> Result<Vec<u8>, RecordError> {
        let file = folder_of(path).join(name);
        let altered = |reason: String| RecordError::Altered { path: file.clone(), reason };
        let contents = std::fs::read(&file).map_err(|error| altered(format!("cannot be read: {error}")))?;
        match self.files.get(name) {
            None if self.files.is_empty() => Ok(contents),
            None => Err(altered("is not listed in its record".into())),
            Some(listed) if blake3::hash(&contents).to_hex().as_str() == listed => Ok(contents),
            Some(_) => Err(altered("has changed since its record was written".into())),
        }
    }

    /// Verifies the run's folder against the record at `path`: its name, its configuration, and each listed file except
    /// the adapter, which may be as large as a model and is verified when it is read.
    ///
    /// # Errors
    /// For the first file that differs.
    pub fn check_folder(&self, path: &Path) -> Result<(), RecordError> {
        if self.files.is_empty() {
            return Ok(()); // of an earlier version
        }
        let altered =
            |file: &Path, reason: &str| RecordError::Altered { path: file.into(), reason: reason.into() };
        if folder_of(path).file_name().and_then(|name| name.to_str()) != Some(self.run.as_str()) {
            return Err(altered(path, "belongs in a different folder"));
        }
        for name in self.files.keys().filter(|name| *name != ADAPTER_FILE) {
            let contents = self.read_file(path, name)?;
            if name == CONFIGURATION_FILE {
                let file = folder_of(path).join(name);
                let value: serde_json::Value =
                    serde_json::from_slice(&contents).map_err(|error| altered(&file, &error.to_string()))?;
                if canonical_hash(&value) != self.run {
                    return Err(altered(&file, "does not match the hash that names its folder"));
                }
            }
        }
        Ok(())
    }
}

/// The checksum of a record's text with the digits of `checksum` replaced, if the text contains them.
fn checksum_of(text: &[u8], checksum: &str) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let place = text.rfind(checksum).filter(|_| checksum.len() == BLANK.len())?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&text.as_bytes()[..place]).update(BLANK.as_bytes());
    hasher.update(&text.as_bytes()[place + checksum.len()..]);
    Some(hasher.finalize().to_hex().to_string())
}

/// blake3, in hex, of a value in a form that does not depend on the order of keys: the name of a run.
pub fn canonical_hash(value: &serde_json::Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// JSON with sorted keys, whatever order the maps in memory have.
fn write_canonical(value: &serde_json::Value, text: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            text.push('{');
            for key in keys {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(&map[key], text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write_canonical(value, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_canonical_form_does_not_depend_on_the_order_of_keys() {
        let (mut one, mut two) = (String::new(), String::new());
        write_canonical(&json!({"b": [1, {"d": 2, "c": 3}], "a": "x\""}), &mut one);
        let reordered: Value = serde_json::from_str(r#"{"a":"x\"","b":[1,{"c":3,"d":2}]}"#).unwrap();
        write_canonical(&reordered, &mut two);
        assert_eq!(one, two);
        assert_eq!(one, r#"{"a":"x\"","b":[1,{"c":3,"d":2,},],}"#);
    }
}

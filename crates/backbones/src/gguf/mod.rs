//! The header of a GGUF file: its metadata and its tensor directory.
//!
//! A GGUF file holds weights, configuration and tokenizer together; the reader of each takes its part from a
//! [`Header`]. A file may be truncated or malicious, so no length in it is trusted: nothing is allocated beyond
//! what the file can hold, and every tensor must lie within the file. Layout: little endian; "GGUF", version (2
//! or 3), tensor count, entry count, entries, tensor directory, padding to the alignment, data.

mod blocks;
mod types;

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use san_core::io::files;

use crate::Error;

pub use blocks::dequantise;
pub use types::{TensorType, Value};

/// Data starts at a multiple of this many bytes unless `general.alignment` overrides it.
const ALIGNMENT: u64 = 32;
/// The format's limit on dimensions.
const DIMENSIONS: u32 = 4;
/// Limit on nested arrays: none occur in practice, but a malicious file could nest them arbitrarily.
const DEPTH: u32 = 4;
/// Limit on the total elements of all arrays; a vocabulary has a few hundred thousand tokens, scores and merges
/// each.
const ELEMENTS: u64 = 1 << 22;
/// Limit on entries and on tensors; the largest models have a few thousand.
const ENTRIES: u64 = 1 << 16;
/// The format's limit on key lengths, in bytes; tensor names are shorter.
const NAME_LENGTH: u64 = 65_535;

/// A tensor in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, for example `blk.0.attn_q.weight`.
    pub name: String,
    /// Shape in row-major order (the file stores it reversed).
    pub shape: Vec<i64>,
    /// Storage type of the elements.
    pub kind: TensorType,
    /// Byte offset from the start of the file.
    pub start: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Everything before the data.
#[derive(Debug, Clone)]
pub struct Header {
    /// The file, used in messages.
    pub path: PathBuf,
    /// Entries by key, for example `general.architecture`.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl Header {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// If the file cannot be read, is truncated anywhere (including the data), or is not GGUF version 2 or 3.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| san_core::Error::File { action: "read", path: path.into(), source };
        let file = files::open(path, u64::MAX)?;
        let length = file.metadata().map_err(failed)?.len();
        Self::parse(BufReader::new(file), length, path)
    }

    /// Same as [`Header::read`], from the first bytes of a file of `length` bytes; `path` is used in messages.
    ///
    /// # Errors
    /// Same as [`Header::read`].
    pub fn parse(source: impl Read, length: u64, path: &Path) -> Result<Self, Error> {
        let mut reader = Reader { source, length, position: 0, elements: 0 };
        reader.header(path).map_err(|error| match error {
            ParseError::Io(source) => {
                san_core::Error::File { action: "read", path: path.into(), source }.into()
            }
            ParseError::Format(reason) => Error::MalformedGguf { path: path.into(), reason },
        })
    }

    /// An error in this file.
    pub fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::MalformedGguf { path: self.path.clone(), reason: reason.into() }
    }

    /// The entry with that key.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, key: &str) -> Result<&Value, Error> {
        self.metadata.get(key).ok_or_else(|| self.malformed(format!("it has no entry `{key}`")))
    }

    /// A string.
    ///
    /// # Errors
    /// If there is no such entry, or it is not a string.
    pub fn text(&self, key: &str) -> Result<&str, Error> {
        self.get(key)?.as_text().ok_or_else(|| self.wrong_type(key, "a string"))
    }

    /// A non-negative integer of any width.
    ///
    /// # Errors
    /// If there is no such entry, or it is not a non-negative integer.
    pub fn unsigned(&self, key: &str) -> Result<u64, Error> {
        self.get(key)?.as_unsigned().ok_or_else(|| self.wrong_type(key, "a non-negative integer"))
    }

    /// A number of any type.
    ///
    /// # Errors
    /// If there is no such entry, or it is not a number.
    pub fn number(&self, key: &str) -> Result<f64, Error> {
        self.get(key)?.as_number().ok_or_else(|| self.wrong_type(key, "a number"))
    }

    /// A boolean.
    ///
    /// # Errors
    /// If there is no such entry, or it is not a boolean.
    pub fn flag(&self, key: &str) -> Result<bool, Error> {
        self.get(key)?.as_flag().ok_or_else(|| self.wrong_type(key, "true or false"))
    }

    /// An array of strings.
    ///
    /// # Errors
    /// If there is no such entry, or it is not an array of strings.
    pub fn texts(&self, key: &str) -> Result<Vec<&str>, Error> {
        let array = self.get(key)?.as_array();
        let texts = array.and_then(|values| values.iter().map(Value::as_text).collect());
        texts.ok_or_else(|| self.wrong_type(key, "an array of strings"))
    }

    /// An array of numbers.
    ///
    /// # Errors
    /// If there is no such entry, or it is not an array of numbers.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>, Error> {
        let array = self.get(key)?.as_array();
        let numbers = array.and_then(|values| values.iter().map(Value::as_number).collect());
        numbers.ok_or_else(|| self.wrong_type(key, "an array of numbers"))
    }

    fn wrong_type(&self, key: &str, expected: &str) -> Error {
        self.malformed(format!("entry `{key}` is not {expected}"))
    }
}

/// Why parsing failed.
enum ParseError {
    Io(std::io::Error),
    Format(String),
}

impl From<String> for ParseError {
    fn from(reason: String) -> Self {
        Self::Format(reason)
    }
}

/// A source of known length.
struct Reader<R> {
    source: R,
    length: u64,
    position: u64,
    /// Array elements read so far.
    elements: u64,
}

impl<R: Read> Reader<R> {
    fn header(&mut self, path: &Path) -> Result<Header, ParseError> {
        if self.array::<4>().map_err(|_| "it does not start with `GGUF`".to_owned())? != *b"GGUF" {
            return Err("it does not start with `GGUF`".to_owned().into());
        }
        match self.u32()? {
            2 | 3 => {}
            other => return Err(format!("its version is {other}; versions 2 and 3 are supported").into()),
        }
        let (tensors, entries) = (self.u64()?, self.u64()?);
        for (count, what) in [(tensors, "tensors"), (entries, "entries")] {
            if count > ENTRIES {
                return Err(format!("it claims to have {count} {what}; the limit is {ENTRIES}").into());
            }
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = self.text(NAME_LENGTH)?;
            let code = self.u32()?;
            let value = self.value(code, DEPTH)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(format!("entry `{key}` occurs twice").into());
            }
        }
        let mut directory = Vec::new();
        for _ in 0..tensors {
            directory.push(self.tensor_info()?);
        }
        let tensors = self.with_absolute_offsets(directory, alignment(&metadata)?)?;
        Ok(Header { path: path.into(), metadata, tensors })
    }

    /// A tensor whose offset is still relative to the start of the data.
    fn tensor_info(&mut self) -> Result<TensorInfo, ParseError> {
        let name = self.text(NAME_LENGTH)?;
        let dimensions = self.u32()?;
        if dimensions > DIMENSIONS {
            return Err(format!("tensor `{name}` has {dimensions} dimensions").into());
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size =
                i64::try_from(self.u64()?).map_err(|_| format!("the shape of `{name}` is too large"))?;
            shape.insert(0, size);
        }
        let code = self.u32()?;
        let kind = TensorType::from_code(code)
            .ok_or_else(|| format!("tensor `{name}` has type {code}, which is not supported"))?;
        let bytes = kind.bytes(&shape).map_err(|reason| format!("tensor `{name}` {reason}"))?;
        Ok(TensorInfo { name, shape, kind, start: self.u64()?, bytes })
    }

    /// The directory by name, with offsets from the start of the file.
    fn with_absolute_offsets(
        &self,
        directory: Vec<TensorInfo>,
        alignment: u64,
    ) -> Result<BTreeMap<String, TensorInfo>, ParseError> {
        let data = self.position.next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for mut tensor in directory {
            let start = data.checked_add(tensor.start).filter(|start| start % alignment == 0);
            let start = start.ok_or_else(|| {
                format!("the offset of tensor `{}` is not a multiple of {alignment}", tensor.name)
            })?;
            if start.checked_add(tensor.bytes).is_none_or(|end| end > self.length) {
                return Err(format!(
                    "it is truncated: tensor `{}` of {} bytes starts at {start}, but the file has {}",
                    tensor.name, tensor.bytes, self.length
                )
                .into());
            }
            tensor.start = start;
            if let Some(other) = tensors.insert(tensor.name.clone(), tensor) {
                return Err(format!("tensor `{}` occurs twice", other.name).into());
            }
        }
        Ok(tensors)
    }

    fn value(&mut self, code: u32, depth: u32) -> Result<Value, ParseError> {
        Ok(match code {
            0 => Value::U8(u8::from_le_bytes(self.array()?)),
            1 => Value::I8(i8::from_le_bytes(self.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => match self.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(format!("a boolean has the value {other}").into()),
            },
            8 => Value::Text(self.text(self.length)?),
            9 if depth == 0 => return Err("its arrays are nested too deeply".to_owned().into()),
            9 => {
                let (code, count) = (self.u32()?, self.u64()?);
                self.elements = self.elements.saturating_add(count);
                if self.elements > ELEMENTS {
                    let reason = format!(
                        "its arrays claim to have {} elements; the limit is {ELEMENTS}",
                        self.elements
                    );
                    return Err(reason.into());
                }
                // Grown element by element: memory must not be reserved from an untrusted count.
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(code, depth - 1)?);
                }
                Value::Array(values)
            }
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("an entry has type {other}, which does not exist").into()),
        })
    }

    fn text(&mut self, limit: u64) -> Result<String, ParseError> {
        let length = self.u64()?;
        if length > limit {
            return Err(format!("a string at byte {} claims to have {length} bytes", self.position).into());
        }
        self.advance(length)?;
        let mut bytes = Vec::new();
        (&mut self.source).take(length).read_to_end(&mut bytes).map_err(ParseError::Io)?;
        if bytes.len() as u64 != length {
            return Err(self.truncated());
        }
        String::from_utf8(bytes)
            .map_err(|_| format!("a string before byte {} is not UTF-8", self.position).into())
    }

    fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ParseError> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        self.advance(N as u64)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.truncated(),
            _ => ParseError::Io(error),
        })?;
        Ok(bytes)
    }

    /// Counts `length` bytes as read, if the file has that many left.
    fn advance(&mut self, length: u64) -> Result<(), ParseError> {
        match self.position.checked_add(length).filter(|&end| end <= self.length) {
            Some(end) => self.position = end,
            None => return Err(self.truncated()),
        }
        Ok(())
    }

    fn truncated(&self) -> ParseError {
        format!("its header is truncated, at byte {} of {}", self.position, self.length).into()
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, ParseError> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(ALIGNMENT) };
    let alignment =
        value.as_unsigned().filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 20);
    alignment.ok_or_else(|| "`general.alignment` is not a supported power of two".to_owned().into())
}

#[cfg(test)]
mod tests;

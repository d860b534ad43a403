//! TensorFlow's record files of `tf.train.Example` messages: an encoded image and its label in each record.
//!
//! A record is its length (u64), a checksum of that, the message and its checksum; a checksum is a CRC-32C, rotated and
//! shifted by a constant (tensorflow/core/lib/io/record_writer.h). Both are verified. A message is a map from names to
//! lists of one type (tensorflow/core/example/feature.proto), in the wire format of protocol buffers. A file is read
//! once, record by record; afterwards an image is read from its place.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::io::files::{self, MAX_IMAGE_BYTES};
use crate::sources::formats::Cursor;
use crate::sources::sample::{Content, Records};

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// Added to the rotated checksum, so that the checksum of data that contain checksums is not degenerate.
const MASK: u32 = 0xA282_EAD8;
/// Bytes before a message: its length and the checksum of that.
const HEAD: u64 = 12;
/// Bytes of a checksum.
const CHECKSUM: u64 = 4;

/// The images of one file.
pub(crate) struct TfRecords {
    path: PathBuf,
    /// Offset in the file and number of bytes.
    images: Vec<(u64, usize)>,
}

impl TfRecords {
    /// Reads and verifies a whole file; returns its images, and their labels.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, Vec<i64>), String> {
        let file = files::open(&path, u64::MAX).map_err(|error| error.to_string())?;
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        let (mut reader, mut position) = (BufReader::with_capacity(1 << 18, file), 0);
        let (mut images, mut labels, mut message) = (Vec::new(), Vec::new(), Vec::new());
        while position < size {
            let record = images.len();
            let read = next(&mut reader, size - position, &mut message);
            let example = read.and_then(|()| Example::parse(&message));
            let example = example.map_err(|reason| format!("record {record}: {reason}"))?;
            images.push((position + HEAD + example.image.0 as u64, example.image.1));
            labels.push(example.label);
            position += HEAD + message.len() as u64 + CHECKSUM;
        }
        Ok((Self { path, images }, labels))
    }
}

impl Records for TfRecords {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, index: u64) -> Result<Content, String> {
        let place = usize::try_from(index).ok().and_then(|index| self.images.get(index));
        let (offset, length) = *place.ok_or("there is no such record")?;
        let mut bytes = vec![0; length];
        let mut read = || {
            let mut file = files::open(&self.path, u64::MAX)?;
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(|error| error.to_string())?;
        Ok(Content::Encoded(bytes))
    }
}

/// Reads the next message; `left` is the number of bytes left in the file.
fn next(reader: &mut impl Read, left: u64, message: &mut Vec<u8>) -> Result<(), String> {
    let truncated = || "it is truncated".to_owned();
    let mut head = [0; HEAD as usize];
    reader.read_exact(&mut head).map_err(|_| truncated())?;
    let (length, checksum) = head.split_at(8);
    verify(length, checksum).map_err(|reason| format!("its length is damaged: {reason}"))?;
    let length = u64::from_le_bytes(length.try_into().map_err(|_| truncated())?);
    if length > MAX_IMAGE_BYTES {
        return Err(format!("it has {length} bytes; at most {MAX_IMAGE_BYTES} are supported"));
    }
    if HEAD + length + CHECKSUM > left {
        return Err(truncated());
    }
    message.resize(length as usize, 0);
    let mut checksum = [0; CHECKSUM as usize];
    reader.read_exact(message).and_then(|()| reader.read_exact(&mut checksum)).map_err(|_| truncated())?;
    verify(message, &checksum)
}

/// Compares bytes with their masked checksum.
fn verify(bytes: &[u8], checksum: &[u8]) -> Result<(), String> {
    let found = CRC.checksum(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes();
    if found == checksum { Ok(()) } else { Err("its checksum is wrong".into()) }
}

/// Whether the bytes are a message with an image and a label.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn is_example(message: &[u8]) -> bool {
    Example::parse(message).is_ok()
}

/// What is used of a message.
struct Example {
    /// Offset in the message and number of bytes.
    image: (usize, usize),
    label: i64,
}

impl Example {
    fn parse(message: &[u8]) -> Result<Self, String> {
        let (mut image, mut label) = (None, None);
        // Example.features, Features.feature, then the key and the value of an entry of the map.
        for features in Fields::of(message, 0..message.len()).number(1) {
            for entry in Fields::of(message, features?.bytes()?).number(1) {
                let (mut key, mut value) = (0..0, 0..0);
                for field in Fields::of(message, entry?.bytes()?) {
                    match field? {
                        (1, field) => key = field.bytes()?,
                        (2, field) => value = field.bytes()?,
                        _ => {}
                    }
                }
                let found = match &message[key] {
                    b"image" => image.replace(bytes_of(message, value)?).is_some(),
                    b"label" => label.replace(integer_of(message, value)?).is_some(),
                    _ => false,
                };
                if found {
                    return Err("a feature occurs twice".into());
                }
            }
        }
        let image = image.ok_or("it has no feature `image`")?;
        Ok(Self { image: (image.start, image.len()), label: label.ok_or("it has no feature `label`")? })
    }
}

type Range = std::ops::Range<usize>;

/// Feature.bytes_list.value, of which there must be one.
fn bytes_of(message: &[u8], feature: Range) -> Result<Range, String> {
    let mut values = Vec::new();
    for list in Fields::of(message, feature).number(1) {
        for value in Fields::of(message, list?.bytes()?).number(1) {
            values.push(value?.bytes()?);
        }
    }
    only(values, "image")
}

/// Feature.int64_list.value, of which there must be one; it may be packed.
fn integer_of(message: &[u8], feature: Range) -> Result<i64, String> {
    let mut values = Vec::new();
    for list in Fields::of(message, feature).number(3) {
        for value in Fields::of(message, list?.bytes()?).number(1) {
            match value? {
                Field::Number(value) => values.push(value),
                packed => {
                    let packed = packed.bytes()?;
                    let mut cursor = Cursor::new(&message[packed]);
                    while !cursor.is_at_end() {
                        values.push(varint(&mut cursor)?);
                    }
                }
            }
        }
    }
    // Negative numbers are stored as their two's complement.
    only(values, "label").map(u64::cast_signed)
}

fn only<T>(values: Vec<T>, name: &str) -> Result<T, String> {
    let count = values.len();
    let wrong = || format!("its feature `{name}` has {count} values of the expected type instead of one");
    values.into_iter().next().filter(|_| count == 1).ok_or_else(wrong)
}

/// The value of a field.
enum Field {
    Number(u64),
    /// Its place in the message.
    Bytes(Range),
    /// A number of fixed size, which no field that is used has.
    Fixed,
}

impl Field {
    fn bytes(self) -> Result<Range, String> {
        match self {
            Self::Bytes(range) => Ok(range),
            _ => Err("a field has an unexpected type".into()),
        }
    }
}

/// The fields of a part of a message, as (number, value).
struct Fields<'a> {
    cursor: Cursor<'a>,
    /// Where the part starts in the message.
    start: usize,
    failed: bool,
}

impl<'a> Fields<'a> {
    /// `part` is a range of `message`.
    fn of(message: &'a [u8], part: Range) -> Self {
        Self { start: part.start, cursor: Cursor::new(&message[part]), failed: false }
    }

    /// The values of the fields with this number.
    fn number(self, number: u64) -> impl Iterator<Item = Result<Field, String>> {
        self.filter_map(move |field| match field {
            Ok((found, value)) => (found == number).then_some(Ok(value)),
            Err(reason) => Some(Err(reason)),
        })
    }

    fn field(&mut self) -> Result<(u64, Field), String> {
        let tag = varint(&mut self.cursor)?;
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut self.cursor)?),
            1 => self.cursor.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(varint(&mut self.cursor)?).unwrap_or(usize::MAX);
                self.cursor.take(length)?;
                let end = self.start + self.cursor.position();
                Field::Bytes(end - length..end)
            }
            5 => self.cursor.take(4).map(|_| Field::Fixed)?,
            other => return Err(format!("a field has the unknown wire type {other}")),
        };
        Ok((tag >> 3, value))
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<(u64, Field), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.cursor.is_at_end() {
            return None;
        }
        let field = self.field();
        self.failed = field.is_err();
        Some(field)
    }
}

/// A number in groups of seven bits, the lowest first.
fn varint(cursor: &mut Cursor) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let [byte] = cursor.array()?;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number has more than 64 bits".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_masked_checksum_is_that_of_the_first_eight_bytes_of_a_known_record() {
        // RFC 3720, B.4: the CRC-32C of 32 zero bytes is 8A9136AA.
        assert_eq!(CRC.checksum(&[0; 32]), 0x8A91_36AA);
    }

    #[test]
    fn numbers_of_up_to_64_bits_are_read_and_longer_ones_are_refused() {
        let read = |bytes: &[u8]| varint(&mut Cursor::new(bytes));
        assert_eq!(read(&[0xAC, 0x02]), Ok(300));
        assert_eq!(read(&[&[0xFF; 9][..], &[1]].concat()), Ok(u64::MAX));
        assert!(read(&[&[0xFF; 9][..], &[2]].concat()).unwrap_err().contains("64 bits"));
        assert!(read(&[0xFF; 10]).unwrap_err().contains("64 bits"));
        assert!(read(&[0x80]).unwrap_err().contains("truncated"));
    }
}

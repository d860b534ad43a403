//! Reader for MATLAB MAT-files, level 5 (MathWorks, "MAT-File Format"): numeric and character arrays, cells and
//! structures, uncompressed or compressed, little-endian. Objects, sparse and complex arrays are rejected with an error
//! that names them.

use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::sources::formats::Cursor;

/// Maximum ratio of unpacked to file size, in addition to a base allowance; pixels hardly compress.
const MAX_RATIO: u64 = 100;
/// The base allowance: labels may compress a hundredfold and more, and files with only labels are small.
const BASE_ALLOWANCE: u64 = 4 << 20;
/// Maximum number of arrays in a file, including nested ones; the largest list (Stanford Cars) has 50 thousand.
const MAX_ARRAYS: usize = 1 << 20;
/// Maximum nesting depth of cells; our datasets have two levels.
const MAX_DEPTH: usize = 16;
/// Largest integer up to which every integer is exactly representable as f64.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// An array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mat {
    /// Numbers, in column-major order.
    Numbers(Numbers),
    /// A row of characters.
    Text(String),
    /// An array of arrays.
    Cell(Vec<Mat>),
    /// Fields, each with one array per element of the structure.
    Struct(Vec<(String, Vec<Mat>)>),
}

/// Numbers as stored in the file, so that they take no more memory than there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) dims: Vec<usize>,
    kind: NumberKind,
    bytes: Vec<u8>,
}

/// The storage type of a number, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberKind {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

impl NumberKind {
    /// From the type code of a data element.
    fn from_code(code: u32) -> Result<Self, String> {
        Ok(match code {
            1 => Self::I8,
            2 => Self::U8,
            3 => Self::I16,
            4 => Self::U16,
            5 => Self::I32,
            6 => Self::U32,
            7 => Self::F32,
            9 => Self::F64,
            12 => Self::I64,
            13 => Self::U64,
            _ => return Err(format!("numbers of type {code} are not supported")),
        })
    }

    /// Size of a number in bytes.
    fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Reads a number from its bytes.
    fn read(self, bytes: &[u8]) -> f64 {
        fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
            let mut array = [0; N];
            array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            array
        }
        match self {
            Self::I8 => f64::from(i8::from_le_bytes(array(bytes))),
            Self::U8 => f64::from(u8::from_le_bytes(array(bytes))),
            Self::I16 => f64::from(i16::from_le_bytes(array(bytes))),
            Self::U16 => f64::from(u16::from_le_bytes(array(bytes))),
            Self::I32 => f64::from(i32::from_le_bytes(array(bytes))),
            Self::U32 => f64::from(u32::from_le_bytes(array(bytes))),
            Self::F32 => f64::from(f32::from_le_bytes(array(bytes))),
            Self::F64 => f64::from_le_bytes(array(bytes)),
            Self::I64 => i64::from_le_bytes(array(bytes)) as f64,
            Self::U64 => u64::from_le_bytes(array(bytes)) as f64,
        }
    }
}

impl Numbers {
    fn read((code, content): (u32, &[u8]), dims: Vec<usize>) -> Result<Self, String> {
        Ok(Self { dims, kind: NumberKind::from_code(code)?, bytes: content.to_vec() })
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.kind.size()
    }

    /// The values as f64.
    pub(crate) fn iter(&self) -> impl Iterator<Item = f64> {
        self.bytes.chunks_exact(self.kind.size()).map(|bytes| self.kind.read(bytes))
    }

    /// The raw bytes, if the numbers are stored as bytes.
    pub(crate) fn into_bytes(self) -> Option<Vec<u8>> {
        (self.kind == NumberKind::U8).then_some(self.bytes)
    }
}

/// Converts a number to an integer if it is one; the error is a clause.
pub(crate) fn whole(number: f64) -> Result<i64, String> {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT_INTEGER {
        return Ok(number as i64);
    }
    Err(format!("{number} is not a whole number"))
}

impl Mat {
    /// The numbers of a numeric array.
    pub(crate) fn numbers(&self) -> Option<&Numbers> {
        match self {
            Self::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// The text of a character array.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The arrays of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&[Self]> {
        match self {
            Self::Struct(fields) => {
                fields.iter().find(|(field, _)| field == name).map(|(_, values)| values.as_slice())
            }
            _ => None,
        }
    }
}

/// Parses the variables of a file, with their names.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<(String, Mat)>, String> {
    let mut cursor = Cursor::new(bytes);
    let header = cursor.take(128).map_err(|_| "it is not a MAT-file of level 5".to_owned())?;
    if &header[124..] != b"\x00\x01IM" {
        return Err("it is not a little-endian MAT-file of level 5".into());
    }
    let largest = MAX_RATIO * bytes.len() as u64 + BASE_ALLOWANCE;
    let allowance = &mut Allowance { largest, unpacked: 0, arrays: 0 };
    let mut variables = Vec::new();
    while !cursor.is_at_end() {
        let (kind, content) = element(&mut cursor)?;
        match kind {
            COMPRESSED => {
                let unpacked = allowance.unpack(content)?;
                let (kind, content) = element(&mut Cursor::new(&unpacked))?;
                if kind == MATRIX {
                    variables.push(matrix(content, 0, allowance)?);
                }
            }
            MATRIX => variables.push(matrix(content, 0, allowance)?),
            _ => {}
        }
    }
    Ok(variables)
}

/// The memory used so far for a file, and the limit.
struct Allowance {
    /// Maximum number of bytes that the compressed variables may unpack to.
    largest: u64,
    unpacked: u64,
    arrays: usize,
}

impl Allowance {
    fn unpack(&mut self, content: &[u8]) -> Result<Vec<u8>, String> {
        let mut unpacked = Vec::new();
        let mut decoder = ZlibDecoder::new(content).take(self.largest - self.unpacked + 1);
        decoder.read_to_end(&mut unpacked).map_err(|error| format!("a compressed variable: {error}"))?;
        self.unpacked += unpacked.len() as u64;
        if self.unpacked > self.largest {
            return Err(format!("its variables unpack to more than {} bytes", self.largest));
        }
        Ok(unpacked)
    }

    fn count_array(&mut self) -> Result<(), String> {
        self.arrays += 1;
        if self.arrays > MAX_ARRAYS {
            return Err(format!("it contains more than {MAX_ARRAYS} arrays"));
        }
        Ok(())
    }
}

const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// Type and contents of the next data element; small elements store both in eight bytes.
fn element<'a>(cursor: &mut Cursor<'a>) -> Result<(u32, &'a [u8]), String> {
    let tag = u32::from_le_bytes(cursor.array()?);
    if tag >> 16 != 0 {
        let content = cursor.take(4)?;
        let length = (tag >> 16) as usize;
        return content
            .get(..length)
            .map(|content| (tag & 0xFFFF, content))
            .ok_or_else(|| "an invalid tag".to_owned());
    }
    let length = u32::from_le_bytes(cursor.array()?) as usize;
    let content = cursor.take(length)?;
    if tag != COMPRESSED {
        cursor.align(8);
    }
    Ok((tag, content))
}

fn matrix(content: &[u8], depth: usize, allowance: &mut Allowance) -> Result<(String, Mat), String> {
    allowance.count_array()?;
    if content.is_empty() {
        let nothing = Numbers { dims: vec![0, 0], kind: NumberKind::F64, bytes: Vec::new() };
        return Ok((String::new(), Mat::Numbers(nothing)));
    }
    if depth > MAX_DEPTH {
        return Err(format!("cells are nested more than {MAX_DEPTH} levels deep"));
    }
    let cursor = &mut Cursor::new(content);
    let flags = *sizes(element(cursor)?)?.first().ok_or("an array without flags")?;
    let dims = sizes(element(cursor)?)?;
    let count =
        dims.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim)).ok_or("invalid dimensions")?;
    let (_, name) = element(cursor)?;
    let name = String::from_utf8_lossy(name).into_owned();
    if flags & 0x800 != 0 {
        return Err(format!("`{name}` is complex, which is not supported"));
    }
    let value = match flags & 0xFF {
        1 => Mat::Cell(matrices(cursor, count, depth, allowance)?),
        2 => structure(cursor, count, depth, allowance)?,
        4 => Mat::Text(text(element(cursor)?)?),
        6..=15 => Mat::Numbers(numeric(element(cursor)?, dims, count, &name)?),
        class => return Err(format!("`{name}` is of class {class}, which is not supported")),
    };
    Ok((name, value))
}

fn matrices(
    cursor: &mut Cursor<'_>,
    count: usize,
    depth: usize,
    allowance: &mut Allowance,
) -> Result<Vec<Mat>, String> {
    let mut arrays = Vec::new();
    for _ in 0..count {
        match element(cursor)? {
            (MATRIX, content) => arrays.push(matrix(content, depth + 1, allowance)?.1),
            (kind, _) => return Err(format!("an element of type {kind} where an array is expected")),
        }
    }
    Ok(arrays)
}

fn structure(
    cursor: &mut Cursor<'_>,
    count: usize,
    depth: usize,
    allowance: &mut Allowance,
) -> Result<Mat, String> {
    let width = sizes(element(cursor)?)?.first().copied().unwrap_or(0);
    let (_, names) = element(cursor)?;
    if width == 0 || names.is_empty() || !names.len().is_multiple_of(width) {
        return Err("the field names of a structure are invalid".into());
    }
    let name = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let mut fields: Vec<(String, Vec<Mat>)> =
        names.chunks(width).map(|bytes| (name(bytes), Vec::new())).collect();
    for _ in 0..count {
        let values = matrices(cursor, fields.len(), depth, allowance)?;
        fields.iter_mut().zip(values).for_each(|((_, all), value)| all.push(value));
    }
    Ok(Mat::Struct(fields))
}

fn numeric(element: (u32, &[u8]), dims: Vec<usize>, count: usize, name: &str) -> Result<Numbers, String> {
    let numbers = Numbers::read(element, dims)?;
    let found = numbers.len();
    if found == count { Ok(numbers) } else { Err(format!("`{name}` has {found} values, not {count}")) }
}

/// Flags, dimensions and widths: non-negative integers.
fn sizes(element: (u32, &[u8])) -> Result<Vec<usize>, String> {
    let size = |number| whole(number).ok().and_then(|size| usize::try_from(size).ok());
    let sizes = Numbers::read(element, Vec::new())?.iter().map(size).collect::<Option<_>>();
    sizes.ok_or_else(|| "a size is negative or not a whole number".to_owned())
}

/// Characters, stored as UTF-8, UTF-16 or integers.
fn text((kind, content): (u32, &[u8])) -> Result<String, String> {
    match kind {
        1 | 2 | 16 => Ok(String::from_utf8_lossy(content).into_owned()),
        4 | 17 => {
            let (pairs, _) = content.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
            Ok(String::from_utf16_lossy(&units))
        }
        _ => Err(format!("characters of type {kind} are not supported")),
    }
}

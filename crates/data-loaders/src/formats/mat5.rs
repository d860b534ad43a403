//! MATLAB's MAT-file, level 5 (MathWorks, "MAT-File Format"): numeric and character arrays, cells and structures, plain
//! or compressed, little-endian. Objects, sparse and complex arrays are refused by name.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::Cursor;

/// How many times its size a compressed variable may unpack to, besides a start; pixels hardly shrink.
const LARGEST_RATIO: u64 = 100;
/// That start: labels may shrink a hundredfold and more.
const LARGEST_START: u64 = 64 << 20;
/// Cells in cells; the sets have two levels.
const DEEPEST: usize = 16;

/// An array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mat {
    /// Numbers stored as bytes, column by column.
    Bytes { dims: Vec<usize>, values: Vec<u8> },
    /// Any other numbers, column by column.
    Numbers { dims: Vec<usize>, values: Vec<f64> },
    /// Characters of a row.
    Text(String),
    /// Arrays in an array.
    Cell(Vec<Mat>),
    /// Fields, each with one array for every element of the structure.
    Struct(Vec<(String, Vec<Mat>)>),
}

impl Mat {
    /// The numbers, whatever their type.
    pub(crate) fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Self::Numbers { values, .. } => Some(values.clone()),
            Self::Bytes { values, .. } => Some(values.iter().map(|value| f64::from(*value)).collect()),
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

    /// The arrays under a field.
    pub(crate) fn field(&self, name: &str) -> Option<&[Self]> {
        match self {
            Self::Struct(fields) => {
                fields.iter().find(|(field, _)| field == name).map(|(_, values)| values.as_slice())
            }
            _ => None,
        }
    }
}

/// The variables of a file by name.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<(String, Mat)>, String> {
    let mut cursor = Cursor::new(bytes);
    let header = cursor.take(128).map_err(|_| "it is no MAT-file of level 5".to_owned())?;
    if &header[124..] != b"\x00\x01IM" {
        return Err("it is no little-endian MAT-file of level 5".into());
    }
    let mut variables = Vec::new();
    while !cursor.is_at_end() {
        let (kind, content) = element(&mut cursor)?;
        match kind {
            COMPRESSED => {
                let unpacked = unpack(content)?;
                let (kind, content) = element(&mut Cursor::new(&unpacked))?;
                if kind == MATRIX {
                    variables.push(matrix(content, 0)?);
                }
            }
            MATRIX => variables.push(matrix(content, 0)?),
            _ => {}
        }
    }
    Ok(variables)
}

const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// Type and content of the next data element; small ones keep both in eight bytes.
fn element<'a>(cursor: &mut Cursor<'a>) -> Result<(u32, &'a [u8]), String> {
    let tag = u32::from_le_bytes(cursor.array()?);
    if tag >> 16 != 0 {
        let content = cursor.take(4)?;
        let length = (tag >> 16) as usize;
        return content
            .get(..length)
            .map(|content| (tag & 0xFFFF, content))
            .ok_or_else(|| "a wrong tag".to_owned());
    }
    let length = u32::from_le_bytes(cursor.array()?) as usize;
    let content = cursor.take(length)?;
    if tag != COMPRESSED {
        cursor.align(8);
    }
    Ok((tag, content))
}

fn unpack(content: &[u8]) -> Result<Vec<u8>, String> {
    let largest = LARGEST_RATIO * content.len() as u64 + LARGEST_START;
    let mut unpacked = Vec::new();
    let mut decoder = ZlibDecoder::new(content).take(largest + 1);
    decoder.read_to_end(&mut unpacked).map_err(|error| format!("a compressed variable: {error}"))?;
    if unpacked.len() as u64 > largest {
        return Err(format!("a variable unpacks to more than {largest} bytes"));
    }
    Ok(unpacked)
}

fn matrix(content: &[u8], depth: usize) -> Result<(String, Mat), String> {
    if content.is_empty() {
        return Ok((String::new(), Mat::Numbers { dims: vec![0, 0], values: Vec::new() }));
    }
    if depth > DEEPEST {
        return Err(format!("cells lie more than {DEEPEST} deep"));
    }
    let cursor = &mut Cursor::new(content);
    let flags = numbers(element(cursor)?)?;
    let flags = *flags.first().ok_or("an array without flags")? as u32;
    let dims = numbers(element(cursor)?)?;
    let dims: Vec<usize> = dims.into_iter().map(|dim| dim.max(0.0) as usize).collect();
    let count =
        dims.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim)).ok_or("impossible dimensions")?;
    let (_, name) = element(cursor)?;
    let name = String::from_utf8_lossy(name).into_owned();
    if flags & 0x800 != 0 {
        return Err(format!("`{name}` is complex, which is not read"));
    }
    let value = match flags & 0xFF {
        1 => Mat::Cell(matrices(cursor, count, depth)?),
        2 => structure(cursor, count, depth)?,
        4 => Mat::Text(text(element(cursor)?)?),
        6..=15 => numeric(element(cursor)?, dims, count, &name)?,
        class => return Err(format!("`{name}` is of class {class}, which is not read")),
    };
    Ok((name, value))
}

fn matrices(cursor: &mut Cursor<'_>, count: usize, depth: usize) -> Result<Vec<Mat>, String> {
    let mut arrays = Vec::new();
    for _ in 0..count {
        match element(cursor)? {
            (MATRIX, content) => arrays.push(matrix(content, depth + 1)?.1),
            (kind, _) => return Err(format!("an element of type {kind} where an array belongs")),
        }
    }
    Ok(arrays)
}

fn structure(cursor: &mut Cursor<'_>, count: usize, depth: usize) -> Result<Mat, String> {
    let width = numbers(element(cursor)?)?.first().copied().unwrap_or(0.0) as usize;
    let (_, names) = element(cursor)?;
    if width == 0 || names.is_empty() || !names.len().is_multiple_of(width) {
        return Err("the field names of a structure are broken".into());
    }
    let name = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let mut fields: Vec<(String, Vec<Mat>)> =
        names.chunks(width).map(|bytes| (name(bytes), Vec::new())).collect();
    for _ in 0..count {
        let values = matrices(cursor, fields.len(), depth)?;
        fields.iter_mut().zip(values).for_each(|((_, all), value)| all.push(value));
    }
    Ok(Mat::Struct(fields))
}

fn numeric((kind, content): (u32, &[u8]), dims: Vec<usize>, count: usize, name: &str) -> Result<Mat, String> {
    let value = if kind == 2 {
        Mat::Bytes { dims, values: content.to_vec() }
    } else {
        Mat::Numbers { dims, values: numbers((kind, content))? }
    };
    let found = match &value {
        Mat::Bytes { values, .. } => values.len(),
        Mat::Numbers { values, .. } => values.len(),
        _ => count,
    };
    if found == count { Ok(value) } else { Err(format!("`{name}` has {found} values, not {count}")) }
}

fn numbers((kind, content): (u32, &[u8])) -> Result<Vec<f64>, String> {
    fn each<const N: usize>(content: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        let (chunks, _) = content.as_chunks::<N>();
        chunks.iter().map(|chunk| number(*chunk)).collect()
    }
    Ok(match kind {
        1 => each(content, |b| f64::from(i8::from_le_bytes(b))),
        2 => each(content, |[b]| f64::from(b)),
        3 => each(content, |b| f64::from(i16::from_le_bytes(b))),
        4 => each(content, |b| f64::from(u16::from_le_bytes(b))),
        5 => each(content, |b| f64::from(i32::from_le_bytes(b))),
        6 => each(content, |b| f64::from(u32::from_le_bytes(b))),
        7 => each(content, |b| f64::from(f32::from_le_bytes(b))),
        9 => each(content, f64::from_le_bytes),
        12 => each(content, |b| i64::from_le_bytes(b) as f64),
        13 => each(content, |b| u64::from_le_bytes(b) as f64),
        _ => return Err(format!("numbers of type {kind} are not read")),
    })
}

/// Characters, stored as UTF-8, as UTF-16 or as their numbers.
fn text((kind, content): (u32, &[u8])) -> Result<String, String> {
    match kind {
        1 | 2 | 16 => Ok(String::from_utf8_lossy(content).into_owned()),
        4 | 17 => {
            let (pairs, _) = content.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
            Ok(String::from_utf16_lossy(&units))
        }
        _ => Err(format!("characters of type {kind} are not read")),
    }
}

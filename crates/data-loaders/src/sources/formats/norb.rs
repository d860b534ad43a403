//! Reader for the binary matrices of Small NORB (LeCun et al.): a magic number, the number of dimensions, and at least
//! three sizes.

use crate::sources::formats::Cursor;

/// The header of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) dims: Vec<usize>,
    /// Offset of the values.
    pub(crate) offset: usize,
}

/// Value type; the dataset has no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Byte,
    /// 32 bits, little-endian.
    Integer,
}

/// Parses the header from the first bytes of a file; 64 are enough.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, String> {
    let cursor = &mut Cursor::new(bytes);
    let kind = match u32::from_le_bytes(cursor.array()?) {
        0x1E3D_4C55 => Kind::Byte,
        0x1E3D_4C54 => Kind::Integer,
        magic => return Err(format!("{magic:#x} is not the magic number of bytes or integers")),
    };
    let count = u32::from_le_bytes(cursor.array()?) as usize;
    if count > 8 {
        return Err(format!("it claims {count} dimensions"));
    }
    let mut dims = Vec::new();
    for _ in 0..count.max(3) {
        dims.push(u32::from_le_bytes(cursor.array()?) as usize);
    }
    dims.truncate(count);
    Ok(Header { kind, dims, offset: cursor.position() })
}

/// Reads an integer matrix; returns its sizes and its values in row-major order.
pub(crate) fn integers(bytes: &[u8]) -> Result<(Vec<usize>, Vec<i32>), String> {
    let Header { kind, dims, offset } = header(bytes)?;
    let (values, _) = bytes[offset..].as_chunks::<4>();
    if kind != Kind::Integer
        || Some(values.len()) != dims.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim))
    {
        return Err(format!("it contains {} integers, but its shape is {dims:?}", values.len()));
    }
    Ok((dims, values.iter().map(|value| i32::from_le_bytes(*value)).collect()))
}

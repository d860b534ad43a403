//! GGUF types: metadata values and tensor elements.

/// The value of a metadata entry.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Text(String),
    Array(Vec<Self>),
}

impl Value {
    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_flag(&self) -> Option<bool> {
        if let Self::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    /// The integer, if it is a non-negative one.
    pub fn as_unsigned(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss)]
        match *self {
            Self::F32(value) => Some(value.into()),
            Self::F64(value) => Some(value),
            Self::I8(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::I64(value) => Some(value as f64),
            _ => self.as_unsigned().map(|value| value as f64),
        }
    }
}

/// Storage type of a tensor's elements; quantised types are stored in blocks along the last dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, non_camel_case_types)]
pub enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q8_0,
    Q4_K,
    Q6_K,
}

impl TensorType {
    /// From the type code in the file.
    pub(super) fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// Elements and bytes per block.
    pub fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 2 + 16),
            Self::Q4_1 => (32, 2 + 2 + 16),
            Self::Q8_0 => (32, 2 + 32),
            Self::Q4_K => (256, 2 + 2 + 12 + 128),
            Self::Q6_K => (256, 128 + 64 + 16 + 2),
        }
    }

    /// Bytes of a tensor of this shape.
    pub(super) fn bytes(self, shape: &[i64]) -> Result<u64, String> {
        let (elements, bytes) = self.block();
        let last = shape.last().copied().unwrap_or(1).unsigned_abs();
        if last % elements != 0 {
            return Err(format!(
                "has rows of {last} elements, which is not a multiple of the block size, {elements}"
            ));
        }
        let count = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size.unsigned_abs()));
        let total = count.and_then(|count| (count / elements).checked_mul(bytes));
        total.filter(|&total| i64::try_from(total).is_ok()).ok_or_else(|| "is too large".to_owned())
    }
}

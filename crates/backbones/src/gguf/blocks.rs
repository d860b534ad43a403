//! Dequantisation of blocks, as in ggml's reference (`ggml-quants.c`, `dequantize_row_*`).

use half::{bf16, f16};

use crate::gguf::TensorType;

/// The elements of whole blocks, as f32.
pub fn dequantise(kind: TensorType, bytes: &[u8]) -> Vec<f32> {
    let (elements, size) = kind.block();
    let (elements, size) = (usize::try_from(elements).unwrap_or(1), usize::try_from(size).unwrap_or(1));
    let mut values = Vec::with_capacity(bytes.len() / size * elements);
    let one = match kind {
        TensorType::F32 => |block: &[u8], out: &mut Vec<f32>| {
            out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]]));
        },
        TensorType::F16 => |block: &[u8], out: &mut Vec<f32>| out.push(half(block)),
        TensorType::BF16 => |block: &[u8], out: &mut Vec<f32>| {
            out.push(bf16::from_le_bytes([block[0], block[1]]).to_f32());
        },
        TensorType::Q4_0 => q4_0,
        TensorType::Q4_1 => q4_1,
        TensorType::Q8_0 => q8_0,
        TensorType::Q4_K => q4_k,
        TensorType::Q6_K => q6_k,
    };
    bytes.chunks_exact(size).for_each(|block| one(block, &mut values));
    values
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn signed(byte: u8) -> f32 {
    f32::from(byte.cast_signed())
}

/// d, 16 bytes: w = d (q - 8); low nibbles are elements 0 to 15.
fn q4_0(block: &[u8], out: &mut Vec<f32>) {
    let (d, nibbles) = (half(block), &block[2..]);
    out.extend(nibbles.iter().map(|byte| d * (f32::from(byte & 15) - 8.0)));
    out.extend(nibbles.iter().map(|byte| d * (f32::from(byte >> 4) - 8.0)));
}

/// d, m, 16 bytes: w = d q + m; low nibbles are elements 0 to 15.
fn q4_1(block: &[u8], out: &mut Vec<f32>) {
    let (d, m, nibbles) = (half(block), half(&block[2..]), &block[4..]);
    out.extend(nibbles.iter().map(|byte| d * f32::from(byte & 15) + m));
    out.extend(nibbles.iter().map(|byte| d * f32::from(byte >> 4) + m));
}

/// d, 32 signed bytes: w = d q.
fn q8_0(block: &[u8], out: &mut Vec<f32>) {
    let d = half(block);
    out.extend(block[2..].iter().map(|&byte| d * signed(byte)));
}

/// d, dmin, eight 6-bit scales and minima in 12 bytes, 128 bytes: w = d scale q - dmin minimum.
fn q4_k(block: &[u8], out: &mut Vec<f32>) {
    let (d, dmin, packed) = (half(block), half(&block[2..]), &block[4..16]);
    let pair = |index: usize| {
        let (scale, minimum) = if index < 4 {
            (packed[index] & 63, packed[index + 4] & 63)
        } else {
            let high = |byte: u8| (byte >> 6) << 4;
            let low = packed[index + 4];
            ((low & 15) | high(packed[index - 4]), (low >> 4) | high(packed[index]))
        };
        (d * f32::from(scale), dmin * f32::from(minimum))
    };
    for (group, nibbles) in block[16..].chunks_exact(32).enumerate() {
        let (scale, minimum) = pair(2 * group);
        out.extend(nibbles.iter().map(|byte| scale * f32::from(byte & 15) - minimum));
        let (scale, minimum) = pair(2 * group + 1);
        out.extend(nibbles.iter().map(|byte| scale * f32::from(byte >> 4) - minimum));
    }
}

/// 128 bytes with the low four bits, 64 with the high two bits, 16 signed scales, d: w = d scale (q - 32).
fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(&block[208..]));
    for part in 0..2 {
        let (low, high) = (&low[64 * part..], &high[32 * part..]);
        for quarter in 0..4 {
            for column in 0..32 {
                let nibbles = low[column + 32 * (quarter % 2)];
                let nibble = if quarter < 2 { nibbles & 15 } else { nibbles >> 4 };
                let q = nibble | ((high[column] >> (2 * quarter)) & 3) << 4;
                let scale = signed(scales[8 * part + 2 * quarter + column / 16]);
                out.push(d * scale * (f32::from(q) - 32.0));
            }
        }
    }
}

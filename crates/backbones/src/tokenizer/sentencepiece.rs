//! SentencePiece's `tokenizer.model`: a protocol buffer of scored pieces, parsed field by field.
//!
//! Only what determines ids is parsed: the pieces, the algorithm, the ids of the special tokens and the
//! normalisation. Everything is validated before use; a truncated or foreign file is an error.

use serde_json::Value;

use crate::tokenizer::SpecialTokens;
use crate::tokenizer::document::from_pieces;
use crate::tokenizer::pieces::{Piece, PieceKind};

/// The format's code for BPE.
const BPE: u64 = 2;

/// Parses the model; the error is a clause that completes a message.
pub(super) fn parse(bytes: &[u8]) -> Result<(Value, SpecialTokens), String> {
    let model = Model::read(bytes)?;
    if model.pieces.is_empty() {
        return Err("it contains no pieces".to_owned());
    }
    if model.algorithm != BPE {
        return Err(format!("its algorithm is {}; only {BPE} (BPE), LLaMA's, is supported", model.algorithm));
    }
    if model.has_charsmap || model.collapses_spaces {
        return Err("its normalisation changes texts; only LLaMA's, which does not, is supported".to_owned());
    }
    let known = |id: i64| u32::try_from(id).ok().filter(|id| (*id as usize) < model.pieces.len());
    let special_tokens =
        SpecialTokens { begin: known(model.begin), end: known(model.end), pad: known(model.pad) };
    Ok((from_pieces(&model.pieces, model.prefix, special_tokens.begin)?, special_tokens))
}

/// The parsed parts of the file, initialised to the format's defaults.
struct Model {
    pieces: Vec<Piece>,
    algorithm: u64,
    begin: i64,
    end: i64,
    pad: i64,
    prefix: bool,
    collapses_spaces: bool,
    has_charsmap: bool,
}

impl Model {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut model = Self {
            pieces: Vec::new(),
            algorithm: 1,
            begin: 1,
            end: 2,
            pad: -1,
            prefix: true,
            collapses_spaces: true,
            has_charsmap: false,
        };
        for field in fields(bytes) {
            match field? {
                (1, Wire::Bytes(bytes)) => {
                    let piece =
                        piece(bytes).map_err(|reason| format!("piece {}: {reason}", model.pieces.len()))?;
                    model.pieces.push(piece);
                }
                (2, Wire::Bytes(bytes)) => model.trainer(bytes)?,
                (3, Wire::Bytes(bytes)) => model.normalizer(bytes)?,
                _ => {}
            }
        }
        Ok(model)
    }

    fn trainer(&mut self, bytes: &[u8]) -> Result<(), String> {
        for field in fields(bytes) {
            match field? {
                (3, Wire::Number(value)) => self.algorithm = value,
                (41, Wire::Number(value)) => self.begin = signed(value),
                (42, Wire::Number(value)) => self.end = signed(value),
                (43, Wire::Number(value)) => self.pad = signed(value),
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, bytes: &[u8]) -> Result<(), String> {
        for field in fields(bytes) {
            match field? {
                (2, Wire::Bytes(charsmap)) => self.has_charsmap = !charsmap.is_empty(),
                (3, Wire::Number(value)) => self.prefix = value != 0,
                (4, Wire::Number(value)) => self.collapses_spaces = value != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Negative numbers are encoded as 64-bit two's complement.
fn signed(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

fn piece(bytes: &[u8]) -> Result<Piece, String> {
    let (mut text, mut score, mut kind) = (None, 0.0, PieceKind::Normal);
    for field in fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => {
                text = Some(std::str::from_utf8(bytes).map_err(|_| "its text is not UTF-8")?.to_owned());
            }
            (2, Wire::Fixed32(bits)) => score = f64::from(f32::from_bits(bits)),
            (3, Wire::Number(value)) => {
                kind = PieceKind::from_number(value).ok_or_else(|| format!("its kind {value} is unknown"))?;
            }
            _ => {}
        }
    }
    match text {
        Some(text) if !text.is_empty() && score.is_finite() => Ok(Piece { text, score, kind }),
        _ => Err("it has no text, or a score that is not finite".to_owned()),
    }
}

/// A protocol buffer value.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Fixed64,
}

/// The fields of a message, in order, with their numbers; iteration stops after an error.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Wire<'_>), String>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field.ok_or_else(|| "it is truncated, or is not a SentencePiece model".to_owned()))
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => Wire::Number(varint(rest)?),
        1 => rest.split_off(..8).map(|_| Wire::Fixed64)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Wire::Bytes(rest.split_off(..length)?)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?)),
        _ => return None,
    };
    (key >> 3 != 0).then_some((key >> 3, value))
}

/// A varint: seven bits per byte, at most ten bytes.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 127).checked_shl(shift).unwrap_or(0);
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

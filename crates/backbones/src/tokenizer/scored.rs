//! `tok512.bin`, the vocabulary of llama2.c's story models: the maximum token length, then score, length and
//! bytes of each token, little-endian.

use serde_json::Value;

use crate::tokenizer::SpecialTokens;
use crate::tokenizer::document::{BLANK, from_pieces};
use crate::tokenizer::pieces::{Piece, PieceKind};

/// Unknown, start and end token come first, then the 256 bytes.
const SPECIAL_TOKENS: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// Parses the file; the error is a clause that completes a message.
pub(super) fn parse(bytes: &[u8]) -> Result<(Value, SpecialTokens), String> {
    let malformed = || "it is truncated, or is not a vocabulary of llama2.c".to_owned();
    let mut rest = bytes;
    let max_length = number(&mut rest).ok_or_else(malformed)?;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let score = f32::from_bits(number(&mut rest).ok_or_else(malformed)?);
        let length =
            number(&mut rest).filter(|length| *length <= max_length.max(16)).ok_or_else(malformed)?;
        let text = rest.split_off(..length as usize).ok_or_else(malformed)?;
        let text = std::str::from_utf8(text).map_err(|_| format!("token {} is not UTF-8", pieces.len()))?;
        if !score.is_finite() {
            return Err(format!("the score of token {} is not finite", pieces.len()));
        }
        pieces.push(piece(pieces.len(), text, score));
    }
    if pieces.len() < SPECIAL_TOKENS.len() + 256 {
        return Err(format!("it has {} tokens, fewer than three special tokens and 256 bytes", pieces.len()));
    }
    let special_tokens = SpecialTokens { begin: Some(1), end: Some(2), pad: None };
    Ok((from_pieces(&pieces, true, special_tokens.begin)?, special_tokens))
}

/// The token with that id; the file stores plain spaces, and special tokens surrounded by newlines.
fn piece(id: usize, text: &str, score: f32) -> Piece {
    let score = f64::from(score);
    match id {
        0 => Piece { text: SPECIAL_TOKENS[0].into(), score, kind: PieceKind::Unknown },
        1 | 2 => Piece { text: SPECIAL_TOKENS[id].into(), score, kind: PieceKind::Control },
        3..259 => Piece { text: format!("<0x{:02X}>", id - 3), score, kind: PieceKind::Byte },
        _ => Piece { text: text.replace(' ', BLANK), score, kind: PieceKind::Normal },
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?))
}

//! `tok512.bin`, the vocabulary of llama2.c's story models: the maximum token length, then score, length and
//! bytes of each token, little-endian.

use serde_json::Value;

use crate::tokenizer::Marks;
use crate::tokenizer::document::{BLANK, of_pieces};
use crate::tokenizer::pieces::{Piece, PieceKind};

/// Unknown, start and end token come first, then the 256 bytes.
const MARKS: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// Parses the file; the error is a clause that completes a message.
pub(super) fn parse(bytes: &[u8]) -> Result<(Value, Marks), String> {
    let cut = || "it is cut short, or no vocabulary of llama2.c".to_owned();
    let mut rest = bytes;
    let longest = number(&mut rest).ok_or_else(cut)?;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let score = f32::from_bits(number(&mut rest).ok_or_else(cut)?);
        let length = number(&mut rest).filter(|length| *length <= longest.max(16)).ok_or_else(cut)?;
        let text = rest.split_off(..length as usize).ok_or_else(cut)?;
        let text = std::str::from_utf8(text).map_err(|_| format!("token {} is no UTF-8", pieces.len()))?;
        if !score.is_finite() {
            return Err(format!("the score of token {} is no number", pieces.len()));
        }
        pieces.push(piece(pieces.len(), text, score));
    }
    if pieces.len() < MARKS.len() + 256 {
        return Err(format!("it holds {} tokens, fewer than three marks and the bytes", pieces.len()));
    }
    let marks = Marks { begin: Some(1), end: Some(2), pad: None };
    Ok((of_pieces(&pieces, true, marks.begin)?, marks))
}

/// The token with that id; the file stores plain spaces, and special tokens surrounded by newlines.
fn piece(id: usize, text: &str, score: f32) -> Piece {
    let score = f64::from(score);
    match id {
        0 => Piece { text: MARKS[0].into(), score, kind: PieceKind::Unknown },
        1 | 2 => Piece { text: MARKS[id].into(), score, kind: PieceKind::Control },
        3..259 => Piece { text: format!("<0x{:02X}>", id - 3), score, kind: PieceKind::Byte },
        _ => Piece { text: text.replace(' ', BLANK), score, kind: PieceKind::Normal },
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(rest.split_off(..4)?.try_into().ok()?))
}

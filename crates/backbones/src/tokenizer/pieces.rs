//! Scored pieces, as in SentencePiece, GGUF and the story models, and the merges that they imply.

use std::collections::HashMap;

/// The kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Text.
    Normal,
    /// The unknown token.
    Unknown,
    /// A special token, such as the start token; never matched in a text by its spelling.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// An unused id.
    Unused,
    /// A byte, for example `<0x0A>`.
    Byte,
}

impl PieceKind {
    /// The kind from its number in SentencePiece and GGUF.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// A vocabulary entry; its id is its index.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Its text, with spaces as U+2581.
    pub(super) text: String,
    /// Merge priority: pairs that form pieces with higher scores are merged first.
    pub(super) score: f64,
    /// Its kind.
    pub(super) kind: PieceKind,
}

/// Pairs of pieces that may be merged, highest priority first; a pair has the score of the merged piece.
pub(super) fn merges(pieces: &[Piece]) -> Vec<(&str, &str)> {
    let ids: HashMap<&str, usize> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let mut merges = Vec::new();
    for (id, piece) in pieces.iter().enumerate().filter(|(_, piece)| piece.kind == PieceKind::Normal) {
        for (cut, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(cut);
            if let (Some(one), Some(other)) = (ids.get(left), ids.get(right)) {
                merges.push(((id, *one, *other), (left, right)));
            }
        }
    }
    // Ties are broken by vocabulary order, as if the vocabulary had been trained in it.
    merges.sort_by(|(one, _), (other, _)| {
        let score = |id: usize| pieces[id].score;
        score(other.0).total_cmp(&score(one.0)).then(one.cmp(other))
    });
    merges.into_iter().map(|(_, pair)| pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_has_the_score_of_its_result_and_both_halves_must_be_pieces() {
        let piece = |text: &str, score| Piece { text: text.into(), score, kind: PieceKind::Normal };
        let pieces =
            [piece("abc", -1.0), piece("ab", -2.0), piece("a", -9.0), piece("b", -9.0), piece("c", -9.0)];
        assert_eq!(merges(&pieces), [("ab", "c"), ("a", "b")]);
    }
}

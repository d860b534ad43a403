//! Pieces with scores, as SentencePiece, GGUF and the story models have them, and the merges that they imply.

use std::collections::HashMap;

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Text.
    Normal,
    /// What stands for anything that has no piece.
    Unknown,
    /// A mark of the model, such as the start token; never found in a text by its spelling alone.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// A place in the vocabulary that is never used.
    Unused,
    /// A byte, `<0x0A>`.
    Byte,
}

impl PieceKind {
    /// The kind by the number that SentencePiece and GGUF give it.
    pub(super) fn of(number: u64) -> Option<Self> {
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

/// An entry of a vocabulary; its id is its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Its text, blanks written as U+2581.
    pub(super) text: String,
    /// The better, the sooner two pieces are merged into it.
    pub(super) score: f64,
    /// What it is.
    pub(super) kind: PieceKind,
}

/// Pairs of pieces that may be merged, best first: a pair is as good as the piece that it makes.
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
    // Equal scores: in the order of the vocabulary, as if it had been trained in it.
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
    fn a_merge_is_as_good_as_its_piece_and_both_halves_must_be_pieces() {
        let piece = |text: &str, score| Piece { text: text.into(), score, kind: PieceKind::Normal };
        let pieces =
            [piece("abc", -1.0), piece("ab", -2.0), piece("a", -9.0), piece("b", -9.0), piece("c", -9.0)];
        assert_eq!(merges(&pieces), [("ab", "c"), ("a", "b")]);
    }
}

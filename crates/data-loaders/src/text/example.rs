//! Converts rows to token ids with labels using a tokenizer: truncation, loss mask, and how often truncation removes
//! answers.
//!
//! As in LLM-Adapters, the whole text is encoded and truncated on the right to the protocol's length; the end token is
//! appended if there is room. The loss is on prompt and answer, or (`train_on_inputs` off) on what follows the prompt,
//! whose length is that of the prompt encoded alone.

use serde::{Deserialize, Serialize};

use crate::text::prompt::{training_prompt, training_text};
use crate::text::row::Row;

/// The label of a token that is excluded from the loss.
pub const MASKED: i64 = -100;

/// How rows become examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleProtocol {
    /// Maximum number of tokens of an example, including the end token; 256 as published.
    pub max_length: usize,
    /// Whether the loss includes the prompt, as published.
    pub train_on_inputs: bool,
    /// Whether a row that is too long loses tokens from the middle of its prompt and keeps its answer; the published
    /// code truncates on the right, which removes the answer.
    pub keep_answer: bool,
}

impl Default for ExampleProtocol {
    /// As published.
    fn default() -> Self {
        Self { max_length: 256, train_on_inputs: true, keep_answer: false }
    }
}

/// Token ids and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids, including the start token first if the tokenizer has one.
    pub tokens: Vec<u32>,
    /// For each token its own id, or [`MASKED`]; the model shifts them by one.
    pub labels: Vec<i64>,
    /// Start indices of branches, which follow a shared prefix and do not attend to each other; empty if the example is
    /// a single text.
    pub branches: Vec<usize>,
}

impl Example {
    /// A single text.
    pub fn new(tokens: Vec<u32>, labels: Vec<i64>) -> Self {
        Self { tokens, labels, branches: Vec::new() }
    }

    /// Merges several examples: their common prefix occurs once, followed by the rest of each example as a branch. A
    /// model that separates the branches computes the same loss as for the individual examples, because each token has
    /// the same context and position.
    pub fn sharing(examples: &[Self]) -> Self {
        let [first, ..] = examples else { return Self::new(Vec::new(), Vec::new()) };
        // The last shared token has several successors, one per branch, so none of them may be a label.
        let alike = |place: &usize| {
            let masked = |label: Option<&i64>| label == Some(&MASKED);
            examples.iter().all(|example| {
                let labels = (example.labels.get(*place), example.labels.get(place + 1));
                masked(labels.0) && masked(labels.1) && example.tokens[*place] == first.tokens[*place]
            })
        };
        let shared = (0..first.tokens.len()).take_while(alike).count();
        let mut together = Self::new(first.tokens[..shared].to_vec(), vec![MASKED; shared]);
        for Self { tokens, labels, .. } in examples {
            together.branches.push(together.tokens.len());
            together.tokens.extend(&tokens[shared..]);
            together.labels.extend(&labels[shared..]);
        }
        together
    }

    /// Whether any token is a label; there is none if truncation removed the whole answer.
    pub fn teaches(&self) -> bool {
        self.labels.iter().skip(1).any(|label| *label != MASKED)
    }
}

/// The cost of truncation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// Number of rows.
    pub rows: usize,
    /// Rows longer than the limit.
    pub truncated: usize,
    /// Of these, rows whose answer is truncated, fully or partly.
    pub answers_lost: usize,
}

/// Encodes rows; `encode` returns the ids of a text with the start token, without an end token.
///
/// # Errors
/// The first error of `encode`.
pub fn examples<E>(
    rows: &[Row],
    protocol: &ExampleProtocol,
    end: u32,
    mut encode: impl FnMut(&str) -> Result<Vec<u32>, E>,
) -> Result<(Vec<Example>, Truncation), E> {
    let mut cost = Truncation { rows: rows.len(), ..Truncation::default() };
    let mut examples = Vec::with_capacity(rows.len());
    for row in rows {
        let tokens = encode(&training_text(row))?;
        let prompt = encode(&training_prompt(row))?.len().min(tokens.len());
        examples.push(example(tokens, prompt, protocol, end, &mut cost));
    }
    Ok((examples, cost))
}

/// One example; `prompt` is the number of tokens before the answer.
fn example(
    mut tokens: Vec<u32>,
    mut prompt: usize,
    protocol: &ExampleProtocol,
    end: u32,
    cost: &mut Truncation,
) -> Example {
    let max_length = protocol.max_length;
    // A kept answer also keeps its end token.
    let room = if protocol.keep_answer { max_length.saturating_sub(1) } else { max_length };
    if tokens.len() > room {
        let excess = tokens.len() - room;
        cost.truncated += 1;
        if protocol.keep_answer && excess < prompt {
            // The start and end of the wrapper, the start of the question and the start token are kept.
            let from = ((prompt - excess) / 2).max(1).min(prompt - excess);
            tokens.drain(from..from + excess);
            prompt -= excess;
        } else {
            cost.answers_lost += 1;
            tokens.truncate(max_length);
        }
    }
    if tokens.len() < max_length && tokens.last() != Some(&end) {
        tokens.push(end);
    }
    let masked = if protocol.train_on_inputs { 0 } else { prompt.min(tokens.len()) };
    let labels = tokens.iter().enumerate();
    let labels =
        labels.map(|(place, token)| if place < masked { MASKED } else { i64::from(*token) }).collect();
    Example::new(tokens, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 2;

    /// A start token, then one token per byte: the index of the byte's last occurrence in an alphabet.
    fn encode(text: &str) -> Result<Vec<u32>, std::convert::Infallible> {
        Ok(std::iter::once(1).chain(text.bytes().map(|byte| u32::from(byte) + 3)).collect())
    }

    fn row() -> Row {
        Row::new("Is it?\n\nAnswer format: true/false".into(), "true")
    }

    fn one(protocol: ExampleProtocol) -> (Example, Truncation) {
        let (mut examples, cost) = examples(&[row()], &protocol, END, encode).unwrap();
        (examples.remove(0), cost)
    }

    fn lengths() -> (usize, usize) {
        (encode(&training_prompt(&row())).unwrap().len(), encode(&training_text(&row())).unwrap().len())
    }

    #[test]
    fn a_shared_prefix_occurs_once_and_no_branch_starts_with_a_label() {
        let example = |tokens: &[u32], masked: usize| {
            let label =
                |(place, token): (usize, &u32)| if place < masked { MASKED } else { i64::from(*token) };
            Example::new(tokens.to_vec(), tokens.iter().enumerate().map(label).collect())
        };
        let together = Example::sharing(&[example(&[1, 9, 9, 4, 5], 4), example(&[1, 9, 9, 6, 7, 8], 4)]);
        assert_eq!(together.tokens, [1, 9, 9, 4, 5, 6, 7, 8]);
        assert_eq!(together.labels, [MASKED, MASKED, MASKED, MASKED, 5, MASKED, 7, 8]);
        assert_eq!(together.branches, [3, 5]);
        // The same prompt twice: its last token is not shared, because it predicts the first label of each branch.
        let twice = Example::sharing(&[example(&[1, 9, 5], 2), example(&[1, 9, 5], 2)]);
        assert_eq!((twice.tokens, twice.branches), (vec![1, 9, 5, 9, 5], vec![1, 3]));
        assert_eq!(Example::sharing(&[example(&[1, 2], 0)]).branches, [0]);
    }

    #[test]
    fn a_short_row_ends_with_the_end_token_and_is_trained_on_whole() {
        let (_, whole) = lengths();
        let (example, cost) = one(ExampleProtocol { max_length: 1000, ..ExampleProtocol::default() });
        assert_eq!((example.tokens.len(), example.tokens[0], example.tokens[whole]), (whole + 1, 1, END));
        assert_eq!(example.labels, example.tokens.iter().map(|token| i64::from(*token)).collect::<Vec<_>>());
        assert_eq!(cost, Truncation { rows: 1, truncated: 0, answers_lost: 0 });
    }

    #[test]
    fn with_the_loss_only_on_answers_the_prompt_is_masked_but_not_the_end_token() {
        let (prompt, whole) = lengths();
        let (example, _) =
            one(ExampleProtocol { max_length: 1000, train_on_inputs: false, keep_answer: false });
        assert_eq!(example.labels.iter().filter(|label| **label == MASKED).count(), prompt);
        assert_eq!(
            example.labels[prompt..],
            example.tokens[prompt..].iter().map(|t| i64::from(*t)).collect::<Vec<_>>()
        );
        assert_eq!(example.labels[whole], i64::from(END));
    }

    #[test]
    fn the_published_truncation_loses_the_answer_and_counts_it() {
        let (_, whole) = lengths();
        for (max_length, truncated, has_end) in
            [(whole + 1, 0, true), (whole, 0, false), (whole - 1, 1, false)]
        {
            let (example, cost) = one(ExampleProtocol { max_length, ..ExampleProtocol::default() });
            assert_eq!(example.tokens.len(), max_length);
            assert_eq!(example.tokens.last() == Some(&END), has_end);
            assert_eq!((cost.truncated, cost.answers_lost), (truncated, truncated), "{max_length}");
        }
        // All labels are masked: nothing to learn from.
        let (example, _) =
            one(ExampleProtocol { max_length: 20, train_on_inputs: false, keep_answer: false });
        assert!(example.labels.iter().all(|label| *label == MASKED));
    }

    #[test]
    fn keeping_the_answer_truncates_the_middle_of_the_prompt() {
        let (prompt, whole) = lengths();
        let answer = whole - prompt;
        let full = encode(&training_text(&row())).unwrap();
        for max_length in [whole, whole - 30, answer + 3] {
            let (example, cost) =
                one(ExampleProtocol { max_length, train_on_inputs: false, keep_answer: true });
            assert_eq!((example.tokens.len(), cost.truncated, cost.answers_lost), (max_length, 1, 0));
            assert_eq!(example.tokens[0], 1);
            assert_eq!(example.tokens[max_length - 1], END);
            assert_eq!(example.tokens[max_length - 1 - answer..max_length - 1], full[prompt..]);
            assert_eq!(example.labels.iter().filter(|label| **label != MASKED).count(), answer + 1);
        }
        // There is no prompt left to cut.
        let (example, cost) =
            one(ExampleProtocol { max_length: answer, train_on_inputs: true, keep_answer: true });
        assert_eq!((example.tokens.len(), cost.answers_lost), (answer, 1));
    }
}

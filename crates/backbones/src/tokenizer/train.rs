//! A vocabulary made from texts, for the bundled language model: byte-level BPE, digits one by one.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use super::error::TokenizerError;

/// The token that ends a text.
const END: &str = "<|endoftext|>";

/// The `tokenizer.json` of a vocabulary of `size` tokens; the same texts give the same one.
///
/// # Errors
/// When the crate `tokenizers` fails.
pub fn train(texts: impl Iterator<Item = String> + Send, size: usize) -> Result<String, TokenizerError> {
    let fault = |error: tokenizers::Error| TokenizerError::Use {
        path: "tokenizer.json".into(),
        action: "make a vocabulary",
        reason: error.to_string(),
    };
    let bytes = ByteLevel::new(false, true, true);
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END, true)])
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer
        .with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Digits(Digits::new(true)),
            PreTokenizerWrapper::ByteLevel(bytes),
        ])))
        .with_decoder(Some(bytes));
    let mut trainer = tokenizers::models::TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, texts).map_err(fault)?;
    tokenizer.to_string(true).map_err(fault)
}

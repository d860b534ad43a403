//! Tokenises texts with images in them: a placeholder for each token that the tower produces for an image, and a mask
//! of the tokens that are trained on. Shared by pre-training, fine-tuning and evaluation.

use anyhow::{Context as _, Result, bail};
use backbones::tokenizer::{Tokenizer, TokenizerError};
use backbones::vlm::llava;
use data_loaders::text::{Example, MASKED, Truncation};
use data_loaders::vl::{Conversation, ImageTokens, Rendered, Sequence, Template, Token};

/// Turns texts into tokens for one model.
#[derive(Debug)]
pub(crate) struct PictureText<'a> {
    tokenizer: &'a Tokenizer,
    template: Template,
    image: ImageTokens,
    end: String,
}

impl<'a> PictureText<'a> {
    /// For a model, its tokenizer and its end-of-sequence token.
    ///
    /// # Errors
    /// When that token has no text.
    pub(crate) fn new(
        architecture: &llava::Architecture,
        tokenizer: &'a Tokenizer,
        end: u32,
        template: Template,
    ) -> Result<Self> {
        let count = usize::try_from(architecture.tower.token_count())?;
        let end = tokenizer.token(end).context("the end-of-sequence token has no text")?;
        Ok(Self { tokenizer, template, image: ImageTokens { id: architecture.image_token, count }, end })
    }

    /// The prompt of a question, to be continued by the model.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub(crate) fn prompt(&self, question: &str) -> Result<Vec<i64>> {
        Ok(self.sequence(&self.template.open(question))?.ids)
    }

    /// A conversation to train on, truncated on the right to `max_length` tokens; `cost` counts what is lost.
    ///
    /// # Errors
    /// When it cannot be encoded, or the truncation cuts into an image: some of the tower's tokens would have no
    /// placeholder.
    pub(crate) fn example(
        &self,
        conversation: &Conversation,
        max_length: usize,
        cost: &mut Truncation,
    ) -> Result<Example> {
        self.rendered_example(&self.template.render(conversation, &self.end)?, max_length, cost)
    }

    /// The same for a text that is already rendered.
    ///
    /// # Errors
    /// As for [`PictureText::example`].
    pub(crate) fn rendered_example(
        &self,
        rendered: &Rendered,
        max_length: usize,
        cost: &mut Truncation,
    ) -> Result<Example> {
        let mut sequence = self.sequence(rendered)?;
        cost.rows += 1;
        if sequence.ids.len() > max_length {
            let places = |sequence: &Sequence| sequence.ids.iter().filter(|id| **id == self.image.id).count();
            let before = places(&sequence);
            cost.truncated += 1;
            cost.answers_lost += usize::from(sequence.truncate(max_length) > 0);
            if places(&sequence) < before {
                bail!("`max_length: {max_length}` truncates the {} tokens of an image", self.image.count);
            }
        }
        let tokens = sequence.ids.iter().map(|&id| u32::try_from(id)).collect::<Result<Vec<_>, _>>()?;
        let labelled = sequence.ids.iter().zip(&sequence.trained);
        let labels = labelled.map(|(&id, &trained)| if trained { id } else { MASKED }).collect();
        Ok(Example::new(tokens, labels))
    }

    fn sequence(&self, rendered: &Rendered) -> Result<Sequence, TokenizerError> {
        rendered.sequence(self.image, |text, first| {
            let tokens = self.tokenizer.encode_spans(text, first)?;
            Ok(tokens.into_iter().map(|(id, span)| Token { id: id.into(), span }).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use backbones::registry::{bundled_language, bundled_llava};
    use data_loaders::SplitCounts;
    use data_loaders::{Benchmark, MiniQuestions};

    use super::*;

    fn tokenizer() -> Tokenizer {
        let (_, files) = bundled_language("llama_micro").unwrap();
        Tokenizer::parse(files.vocabulary, "tokenizer.json".as_ref()).unwrap()
    }

    fn texts(tokenizer: &Tokenizer) -> PictureText<'_> {
        let (architecture, _) = bundled_llava("llava_micro").unwrap();
        PictureText::new(&architecture, tokenizer, tokenizer.end().unwrap(), Template::Bare).unwrap()
    }

    fn conversation() -> (Conversation, String) {
        let counts = SplitCounts { train: 1, val: 1, test: 1 };
        let set = MiniQuestions::draw(Benchmark::Gqa, counts, 32).unwrap();
        (set.train[0].conversation().unwrap(), set.train[0].prompt.clone())
    }

    #[test]
    fn the_answer_with_its_end_token_is_trained_on_after_the_evaluation_prompt() {
        let tokenizer = tokenizer();
        let (conversation, prompt) = conversation();
        let texts = texts(&tokenizer);
        let example = texts.example(&conversation, 400, &mut Truncation::default()).unwrap();
        let asked = texts.prompt(&prompt).unwrap();
        let tokens: Vec<i64> = example.tokens.iter().map(|&token| token.into()).collect();
        assert_eq!(tokens[..asked.len()], asked);
        assert!(example.labels[..asked.len()].iter().all(|label| *label == MASKED));
        assert_eq!(example.labels[asked.len()..], tokens[asked.len()..]);
        let answer = tokenizer.decode(&example.tokens[asked.len()..]).unwrap();
        assert_eq!(answer.trim(), conversation.turns[0].answer);
        assert_eq!(example.tokens.last().copied(), tokenizer.end());
        assert_eq!(tokens.iter().filter(|token| **token == 1024).count(), 16);
    }

    #[test]
    fn a_truncation_is_counted_and_never_reaches_into_an_image() {
        let tokenizer = tokenizer();
        let texts = texts(&tokenizer);
        let (conversation, _) = conversation();
        let mut cost = Truncation::default();
        let whole = texts.example(&conversation, 400, &mut cost).unwrap().tokens.len();
        let cut = texts.example(&conversation, whole - 1, &mut cost).unwrap();
        assert_eq!(
            (cut.tokens.len(), cost),
            (whole - 1, Truncation { rows: 2, truncated: 1, answers_lost: 1 })
        );
        let refused = texts.example(&conversation, 12, &mut cost).unwrap_err().to_string();
        assert_eq!(refused, "`max_length: 12` truncates the 16 tokens of an image");
    }
}

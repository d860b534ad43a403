//! What a language task needs in memory: a micro-batch of its longest examples, and the generation of answers.

use anyhow::Result;
use backbones::step_memory::{self, Generation, LanguageStep, Need};

use super::protocol::{AnswerDecoding, LanguageProtocol};
use crate::models::NamedArchitecture;
use crate::tasks::need::{GroupShape, with_training};
use crate::tasks::{Run, Task};

/// Answer options of a question whose likelihoods are compared.
const OPTIONS: usize = 4;

/// What a group needs whose examples have at most `max_length` tokens.
pub(crate) fn need(
    run: &Run,
    task: &dyn Task,
    (protocol, max_length): (&LanguageProtocol, usize),
    model: &NamedArchitecture,
    shape: GroupShape,
) -> Result<Need> {
    let (language, tower) = match model {
        NamedArchitecture::Language(language) => (language, 0),
        NamedArchitecture::Llava(llava) => (&llava.language, llava.tower.model_spec("tower").parameters()),
        NamedArchitecture::Vision(_) => anyhow::bail!("this task needs a language model"),
    };
    let length = max_length.min(usize::try_from(language.context())?).max(2);
    let within = |sequences: usize, tokens: Option<usize>| {
        tokens.map_or(sequences, |tokens| sequences.min(tokens / length).max(1))
    };
    let batch = within(run.protocol.batch_size, protocol.batch_tokens);
    let micro_batch = shape.memory.micro_batch_size.map_or(batch, |size| size.get().min(batch));
    let step = LanguageStep {
        micro_batch: i64::try_from(micro_batch)?,
        length: i64::try_from(length)?,
        accumulates: micro_batch < batch,
        checkpointing: shape.memory.gradient_checkpointing,
    };
    let (prompts, beams) = match protocol.decoding {
        AnswerDecoding::Greedy => (protocol.evaluation.sequences, 1),
        AnswerDecoding::Beams(beams) => (protocol.evaluation.sequences, beams),
        AnswerDecoding::Likelihood => (OPTIONS, 1),
    };
    let generation = Generation {
        prompts: i64::try_from(within(prompts, protocol.evaluation.tokens))?,
        length: i64::try_from(length)?,
        new_tokens: protocol.max_new_tokens,
        beams,
    };
    let spec = model.model_spec(&run.backbone);
    with_training(run, task, shape, |training| {
        Ok(step_memory::language(&**language, &spec, tower, step, generation, training)?)
    })
}

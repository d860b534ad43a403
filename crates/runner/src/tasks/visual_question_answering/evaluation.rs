//! The evaluation of a model's answers to the questions of one set: metrics by name, and the file for a server.

use std::collections::BTreeMap;

use anyhow::Result;
use data_loaders::vl::{Answered, Judgement, Key, Question, Tally, YesNoCounts};
use data_loaders::{Benchmark, QuestionForm};
use report::record::Dataset;

use super::features::PictureFeatures;
use crate::tasks::language::data::{Answer, EvalJudgement, EvalSet, ImageFeatures};

/// The questions of a set with their prompts, and the benchmark's own scoring.
pub(super) struct QuestionEvalSet {
    pub(super) name: String,
    pub(super) form: Option<QuestionForm>,
    pub(super) dataset: Dataset,
    pub(super) prompts: Vec<Vec<i64>>,
    pub(super) images: PictureFeatures,
    pub(super) questions: Vec<Question>,
    /// Identifiers of questions that the server expects although they are not asked.
    pub(super) also_submitted: Vec<String>,
    /// Accuracy of the most frequent answer to each question, without looking at the images.
    pub(super) prior: Option<f64>,
}

impl EvalSet for QuestionEvalSet {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn metric(&self) -> &'static str {
        // The published number of MMBench asks each question with its options rotated.
        if let Some(QuestionForm::Benchmark(Benchmark::Mmbench)) = self.form {
            return "accuracy of the option, not circular";
        }
        match self.questions.first().map(|question| &question.key) {
            Some(Key::Vqa(_) | Key::TextVqa(_)) => "VQA soft accuracy",
            Some(Key::YesNo(_)) => "F1",
            Some(Key::Choice { .. } | Key::Letter { .. }) => "accuracy of the option",
            Some(Key::Exact(_)) => "exact match",
            Some(Key::Withheld) | None => "server score",
        }
    }

    fn file_stem(&self) -> &str {
        &self.name
    }

    fn prompts(&self) -> &[Vec<i64>] {
        &self.prompts
    }

    fn images(&self) -> &dyn ImageFeatures {
        &self.images
    }

    fn max_new_tokens(&self, most: i64) -> i64 {
        match self.form {
            Some(QuestionForm::Benchmark(benchmark)) => most.min(benchmark.new_tokens()),
            _ => most,
        }
    }

    fn submission(&self, answers: &[Answer]) -> Result<Option<(&'static str, Vec<u8>)>> {
        let Some(QuestionForm::Benchmark(benchmark)) = self.form else { return Ok(None) };
        // A synthetic set, `mini/<set>`, is not the server's: it has no ids of the server's questions.
        if self.dataset.name != self.name {
            return Ok(None);
        }
        let answered = |(question, answer): (&Question, &Answer)| question.answered(answer.words());
        let answered: Vec<Answered> = self.questions.iter().zip(answers).map(answered).collect();
        let answered = benchmark.complete(answered, &self.also_submitted);
        Ok(match benchmark.submission(&answered) {
            Some((name, file)) => Some((name, file?)),
            None => None,
        })
    }

    /// Labels are 1; a prediction is 1 if its score is above 0.5, and 0 otherwise.
    fn judge(&self, answers: &[Answer]) -> EvalJudgement {
        let judged: Vec<Judgement> = self
            .questions
            .iter()
            .zip(answers)
            .map(|(question, answer)| question.key.judge(answer.words()))
            .collect();
        let mut tally = Tally::default();
        for (question, judged) in self.questions.iter().zip(&judged) {
            tally.add(&question.key, &question.part, judged);
        }
        let number = |judged: &Judgement| match judged.score {
            _ if !judged.answered => -1,
            Some(score) => i64::from(score > 0.5),
            None => -1,
        };
        EvalJudgement {
            score: tally.score(),
            no_answer: tally.no_answer_rate(),
            further: further(&tally, self.prior),
            labels: vec![1; judged.len()],
            predicted: judged.iter().map(number).collect(),
        }
    }
}

/// The name of a metric, and how it is computed from counts.
type Named = (&'static str, fn(&YesNoCounts) -> f64);

/// POPE's metrics, each a mean over its parts, and the accuracy of the question-only prior.
fn further(tally: &Tally, prior: Option<f64>) -> BTreeMap<String, f64> {
    let parts = tally.parts();
    let numbers: [Named; 5] = [
        ("accuracy", YesNoCounts::accuracy),
        ("precision", YesNoCounts::precision),
        ("recall", YesNoCounts::recall),
        ("f1", YesNoCounts::f1),
        ("yes_ratio", YesNoCounts::yes_ratio),
    ];
    #[allow(clippy::cast_precision_loss)]
    let mean = |number: fn(&YesNoCounts) -> f64| parts.values().map(number).sum::<f64>() / parts.len() as f64;
    let of_parts = numbers.iter().filter(|_| !parts.is_empty());
    let of_parts = of_parts.map(|(name, number)| ((*name).to_owned(), mean(*number)));
    of_parts.chain(prior.map(|prior| ("question_only_prior".to_owned(), prior))).collect()
}

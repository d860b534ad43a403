//! The question-only prior: the score of a model that ignores the image, which any vision-language model should exceed.

use std::collections::BTreeMap;

use crate::vl::question::Question;
use crate::vl::tally::Tally;

/// The score on `test` of the better of two baselines fitted on `train` without images: one gives the most frequent
/// answer for the question's text, the other always gives the same answer. The second is better when F1 rewards saying
/// yes. `None` if there is nothing to fit or score.
pub fn question_only_prior(train: &[Question], test: &[Question]) -> Option<f64> {
    let mut overall: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_prompt: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for question in train {
        let Some(answer) = question.answer.as_deref() else { continue };
        *overall.entry(answer).or_default() += 1;
        *by_prompt.entry(&question.prompt).or_default().entry(answer).or_default() += 1;
    }
    let usual = most_frequent(&overall)?;
    let known: BTreeMap<&str, &str> =
        by_prompt.iter().filter_map(|(prompt, answers)| Some((*prompt, most_frequent(answers)?))).collect();
    let by_text = score(test, |question| known.get(question.prompt.as_str()).copied().unwrap_or(usual))?;
    let always = overall.keys().filter_map(|answer| score(test, |_| answer));
    Some(always.fold(by_text, f64::max))
}

/// The most frequent answer; ties go to the alphabetically first.
fn most_frequent<'a>(counts: &BTreeMap<&'a str, usize>) -> Option<&'a str> {
    counts.iter().rev().max_by_key(|(_, count)| **count).map(|(answer, _)| *answer)
}

fn score<'a>(questions: &'a [Question], answer: impl Fn(&'a Question) -> &'a str) -> Option<f64> {
    let mut tally = Tally::default();
    for question in questions {
        tally.add(&question.key, &question.part, &question.key.judge(answer(question)));
    }
    tally.score()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::vl::conversation::Origin;
    use crate::vl::judge::Key;
    use crate::vl::picture::Picture;

    fn question(text: &str, right: bool) -> Question {
        let picture = Picture::Pixels(1, Arc::from([0; 3]));
        let origin = Origin::new("a", "a.json".as_ref(), 1);
        let plain = Question::short(String::new(), picture, text, Key::YesNo(right), origin);
        Question { answer: Some(if right { "Yes" } else { "No" }.into()), ..plain }
    }

    #[test]
    fn always_answering_yes_is_a_prior_for_f1() {
        let train = [question("a cat?", false), question("a dog?", false), question("a cow?", true)];
        let test = [question("a cat?", true), question("a dog?", false)];
        // By question text, the answer is never yes: an F1 of 0. Always yes: precision 1/2, recall 1.
        assert!((question_only_prior(&train, &test).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(question_only_prior(&[], &test), None);
    }

    #[test]
    fn an_answer_that_follows_from_the_text_needs_no_image() {
        let both = [question("a cat?", true), question("a dog?", false)];
        assert_eq!(question_only_prior(&both, &both), Some(1.0));
    }
}

//! The seven `mini/` datasets of questions about synthetic images: each has the answer format, the prompt and the
//! scoring of the benchmark that it is named after, but none of its data.
//!
//! The question is chosen before the image and independently of the answer, so a model that ignores the image only
//! reaches the prior: a third or less on four tasks, a half for yes/no questions and for a choice of two words read.
//! Options have the same order in every question of a kind, so that a letter is a class; a micro model need not look it
//! up. A question and its image are functions of (set, split, index).

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::DataError;
use crate::random::Stream;
use crate::registry::{Benchmark, DatasetEntry, QuestionForm};
use crate::split::Part;
use crate::split::SplitCounts;
use crate::synthetic::draw::figures::{
    COLOUR_COUNT, Figure, QUARTERS, SHAPE_COUNT, colour_name, draw, figures, shape_name,
};
use crate::synthetic::draw::glyph;
use crate::transform::resize;
use crate::vl::conversation::Origin;
use crate::vl::judge::Key;
use crate::vl::picture::Picture;
use crate::vl::question::{Question, SHORT_ANSWER, UNANSWERABLE};
use crate::vl::question_set::{QuestionSet, form_of};
use crate::vl::question_suite::QuestionSuite;

/// A synthetic question dataset.
#[derive(Debug, Clone)]
pub struct MiniQuestions {
    /// `mini/<benchmark>`.
    pub name: String,
    /// Training questions while tuning.
    pub train: Vec<Question>,
    /// Validation questions.
    pub val: Vec<Question>,
    /// Test questions.
    pub test: Vec<Question>,
    /// blake3 (hex) of prompts, answers and pixels.
    pub checksum: String,
}

impl MiniQuestions {
    /// Generates the stand-in of a benchmark, `image_size` pixels wide; deterministic in its arguments.
    ///
    /// # Errors
    /// [`DataError::ImageSize`].
    pub fn draw(benchmark: Benchmark, counts: SplitCounts, image_size: u32) -> Result<Self, DataError> {
        resize::check_size(image_size)?;
        let name = format!("mini/{}", benchmark.name());
        let part = |part, count: usize| -> Vec<Question> {
            (0..count).into_par_iter().map(|index| question(benchmark, part, index, image_size)).collect()
        };
        let (train, val) = (part(Part::Train, counts.train), part(Part::Val, counts.val));
        let test = part(Part::Test, counts.test);
        let mut hasher = blake3::Hasher::new();
        for questions in [&train, &val, &test] {
            hasher.update(&(questions.len() as u64).to_le_bytes());
            for Question { prompt, answer, picture, .. } in questions {
                let answer = answer.as_deref().unwrap_or_default();
                hasher.update(prompt.as_bytes()).update(&[0]).update(answer.as_bytes()).update(&[0]);
                if let Picture::Pixels(_, bytes) = picture {
                    hasher.update(bytes);
                }
            }
        }
        let checksum = hasher.finalize().to_hex().to_string();
        Ok(Self { name, train, val, test, checksum })
    }
}

impl QuestionSet {
    /// Generates the stand-in `mini/<name>` with images of `image_size` pixels; deterministic in its arguments.
    ///
    /// # Errors
    /// [`DataError::NoQuestions`]; [`DataError::NoStandIn`] if the dataset has no stand-in; [`DataError::ImageSize`].
    pub fn draw(entry: &DatasetEntry, counts: SplitCounts, image_size: u32) -> Result<Self, DataError> {
        let QuestionForm::Benchmark(benchmark) = form_of(entry)? else {
            return Err(DataError::NoStandIn { set: entry.name.clone() });
        };
        let MiniQuestions { name, train, val, test, checksum } =
            MiniQuestions::draw(benchmark, counts, image_size)?;
        Ok(Self::synthetic(name, entry, [train, val, test], checksum))
    }
}

impl QuestionSuite {
    /// The stand-ins of the datasets, as [`QuestionSet::draw`].
    ///
    /// # Errors
    /// As [`QuestionSet::draw`].
    pub fn draw(entries: &[&DatasetEntry], counts: SplitCounts, image_size: u32) -> Result<Self, DataError> {
        let sets = entries.iter().map(|entry| QuestionSet::draw(entry, counts, image_size));
        Self::synthetic(sets.collect::<Result<_, _>>()?)
    }
}

/// A question under construction: the question, the right answer, and the image contents.
pub(super) struct Draft {
    pub(super) question: String,
    pub(super) answer: String,
    /// All plausible answers; the options, if there are any.
    pub(super) others: Vec<String>,
    pub(super) shown: Shown,
}

impl Draft {
    /// A question of a benchmark; question kinds alternate with the index.
    pub(super) fn of(benchmark: Benchmark, index: usize, stream: &mut Stream) -> Self {
        match benchmark {
            Benchmark::Vqav2 => vqav2(index, stream),
            Benchmark::Gqa => gqa(stream),
            Benchmark::Vizwiz => vizwiz(stream),
            Benchmark::ScienceqaImg => scienceqa(stream),
            Benchmark::Textvqa => textvqa(stream),
            Benchmark::Pope => pope(index, stream),
            Benchmark::Mmbench => mmbench(index, stream),
        }
    }
}

/// The contents of an image.
pub(super) enum Shown {
    /// Figures in good light.
    Figures(Vec<Figure>),
    /// A figure in the dark.
    Dark(Figure),
    /// A digit.
    Digit(usize),
}

impl Shown {
    pub(super) fn draw(&self, image_size: u32, stream: &mut Stream) -> Picture {
        let bytes = match self {
            Self::Figures(figures) => draw(figures, false, image_size, stream),
            Self::Dark(figure) => draw(&[*figure], true, image_size, stream),
            Self::Digit(digit) => glyph::draw_alone(*digit, image_size, stream),
        };
        Picture::Pixels(image_size, Arc::from(bytes))
    }
}

fn question(benchmark: Benchmark, part: Part, index: usize, image_size: u32) -> Question {
    let name = format!("mini/{}", benchmark.name());
    let place = [part as u64, index as u64];
    let stream = &mut Stream::new(&name, &place);
    let draft = Draft::of(benchmark, index, stream);
    let picture = draft.shown.draw(image_size, stream);
    let origin = Origin::new(&name, Path::new("synthetic"), index + 1);
    let id = format!("{}/{index}", part as u64);
    finish(benchmark, draft, id, picture, index, origin, stream)
}

/// Converts the draft to the format of its benchmark.
fn finish(
    benchmark: Benchmark,
    draft: Draft,
    id: String,
    picture: Picture,
    index: usize,
    origin: Origin,
    stream: &mut Stream,
) -> Question {
    let Draft { question, answer, others, .. } = draft;
    let short = |key| Question {
        answer: Some(answer.clone()),
        ..Question::short(id.clone(), picture.clone(), &question, key, origin.clone())
    };
    let right = others.iter().position(|other| *other == answer).unwrap_or_default();
    let options = others.len();
    match benchmark {
        Benchmark::Vqav2 => short(Key::Vqa(people(&answer, &others, stream))),
        Benchmark::Gqa => short(Key::Exact(answer.clone())),
        Benchmark::Vizwiz => Question {
            prompt: format!("{question}\n{UNANSWERABLE}\n{SHORT_ANSWER}"),
            ..short(Key::Vqa(people(&answer, &others, stream)))
        },
        Benchmark::Textvqa => Question {
            prompt: format!("{question}\nReference OCR token: {}\n{SHORT_ANSWER}", others.join(", ")),
            ..short(Key::TextVqa(vec![answer.clone(); 10]))
        },
        Benchmark::Pope => {
            Question { part: POPE_PARTS[index % 3].into(), ..short(Key::YesNo(answer == "Yes")) }
        }
        Benchmark::ScienceqaImg => {
            let (key, hint) = (Key::Choice { right, options }, "Context: The image shows shapes.");
            Question::choice(id, picture, hint, &question, others, key, origin)
        }
        Benchmark::Mmbench => {
            let key = Key::Letter { right, options };
            Question::choice(id, picture, "", &question, others, key, origin)
        }
    }
}

const POPE_PARTS: [&str; 3] = ["random", "popular", "adversarial"];

/// Ten annotators' answers: up to three of them differ, independently.
fn people(answer: &str, others: &[String], stream: &mut Stream) -> Vec<String> {
    let order = stream.permutation(others.len());
    let wrong = order.into_iter().map(|at| others[at].clone()).filter(|other| other != answer);
    let mut ten: Vec<String> = wrong.take(stream.below(4)).collect();
    ten.resize(10, answer.to_owned());
    ten
}

fn names(count: usize, name: fn(usize) -> &'static str) -> Vec<String> {
    (0..count).map(|number| name(number).to_owned()).collect()
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn draft(question: String, answer: impl Into<String>, others: Vec<String>, shown: Vec<Figure>) -> Draft {
    Draft { question, answer: answer.into(), others, shown: Shown::Figures(shown) }
}

/// A colour, a number, or whether a shape is present, alternating.
fn vqav2(index: usize, stream: &mut Stream) -> Draft {
    match index % 3 {
        0 => {
            let count = 1 + stream.below(3);
            let shown = figures(count, stream);
            let asked = shown[0];
            let question = format!("What color is the {}?", shape_name(asked.shape));
            draft(question, colour_name(asked.colour), names(COLOUR_COUNT, colour_name), shown)
        }
        1 => {
            let count = 1 + stream.below(4);
            let shown = figures(count, stream);
            let numbers = texts(&["1", "2", "3", "4"]);
            draft("How many shapes are there?".into(), count.to_string(), numbers, shown)
        }
        _ => {
            let (yes, asked) = (stream.chance(0.5), stream.below(SHAPE_COUNT));
            let shown = loop {
                let shown = figures(2, stream);
                if shown.iter().any(|figure| figure.shape == asked) == yes {
                    break shown;
                }
            };
            let question = format!("Is there a {} in the image?", shape_name(asked));
            draft(question, if yes { "yes" } else { "no" }, texts(&["yes", "no"]), shown)
        }
    }
}

/// What is next to, above or below a shape: two figures in one row or one column.
fn gqa(stream: &mut Stream) -> Draft {
    let relations = [("to the left of", 1, 0), ("to the right of", 0, 1), ("above", 2, 0), ("below", 0, 2)];
    let (relation, asked_at, found_at) = stream.pick(&relations);
    // The first or second row or column of the four quarters.
    let shift = stream.below(2) * if relation.starts_with("to") { 2 } else { 1 };
    let mut shown = figures(2, stream);
    shown[0].quarter = asked_at + shift;
    shown[1].quarter = found_at + shift;
    let (asked, found) = (shape_name(shown[0].shape), shown[1]);
    if stream.chance(0.5) {
        let question = format!("What shape is {relation} the {asked}?");
        draft(question, shape_name(found.shape), names(SHAPE_COUNT, shape_name), shown)
    } else {
        let question = format!("What color is the shape {relation} the {asked}?");
        draft(question, colour_name(found.colour), names(COLOUR_COUNT, colour_name), shown)
    }
}

/// One figure, lit or, one time in four, in the dark, where nothing can be recognised.
fn vizwiz(stream: &mut Stream) -> Draft {
    let figure = figures(1, stream)[0];
    let (question, answer, mut others) = if stream.chance(0.5) {
        ("What color is this?", colour_name(figure.colour), names(COLOUR_COUNT, colour_name))
    } else {
        ("What shape is this?", shape_name(figure.shape), names(SHAPE_COUNT, shape_name))
    };
    others.push("unanswerable".into());
    if stream.chance(0.25) {
        let shown = Shown::Dark(figure);
        Draft { question: question.into(), answer: "unanswerable".into(), others, shown }
    } else {
        draft(question.into(), answer, others, vec![figure])
    }
}

/// Which of four shapes has a colour.
fn scienceqa(stream: &mut Stream) -> Draft {
    let count = 1 + stream.below(3);
    let shown = figures(count, stream);
    let question = format!("Which shape is {}?", colour_name(shown[0].colour));
    draft(question, shape_name(shown[0].shape), names(SHAPE_COUNT, shape_name), shown)
}

/// A digit, and two OCR tokens, one of them right.
fn textvqa(stream: &mut Stream) -> Draft {
    let digit = stream.below(10);
    let wrong = (digit + 1 + stream.below(9)) % 10;
    let read = if stream.chance(0.5) { [digit, wrong] } else { [wrong, digit] };
    Draft {
        question: "what number is on the sign?".into(),
        answer: digit.to_string(),
        others: read.map(|digit| digit.to_string()).into(),
        shown: Shown::Digit(digit),
    }
}

/// Whether an object of some colour is present. Negative questions: any other object (`random`), any other of only four
/// objects that are ever asked for (`popular`), or its shape and its colour in different figures (`adversarial`).
fn pope(index: usize, stream: &mut Stream) -> Draft {
    let (part, yes) = (POPE_PARTS[index % 3], (index / 3).is_multiple_of(2));
    let shape = stream.below(SHAPE_COUNT);
    let colour = if part == "popular" { shape + 1 } else { stream.below(COLOUR_COUNT) };
    let is_asked = |figure: &Figure| figure.shape == shape && figure.colour == colour;
    let shown = loop {
        let mut shown = figures(2, stream);
        if yes {
            shown[0] = Figure { shape, colour, ..shown[0] };
        } else if part == "adversarial" {
            shown[0].shape = shape;
            shown[1].colour = colour;
        }
        let [one, other] = shown[..] else { continue };
        let distinct = one.shape != other.shape && one.colour != other.colour;
        if distinct && shown.iter().any(is_asked) == yes {
            break shown;
        }
    };
    let question = format!("Is there a {} {} in the image?", colour_name(colour), shape_name(shape));
    draft(question, if yes { "Yes" } else { "No" }, texts(&["Yes", "No"]), shown)
}

/// How many or where, alternating.
fn mmbench(index: usize, stream: &mut Stream) -> Draft {
    if index.is_multiple_of(2) {
        let count = 1 + stream.below(4);
        let shown = figures(count, stream);
        let numbers = texts(&["1", "2", "3", "4"]);
        draft("How many shapes are in the image?".into(), count.to_string(), numbers, shown)
    } else {
        let shown = figures(2, stream);
        let question = format!("Where is the {}?", shown[0].name());
        draft(question, QUARTERS[shown[0].quarter], texts(&QUARTERS), shown)
    }
}

//! The endless stream of captioned images on which a bundled vision-language model is aligned.
//!
//! A caption consists of a few remarks about one image: everything in it, or a look-up ("the red one: circle"). Some
//! captions repeat words, because a model with frozen embeddings could not write words it has never written. Most
//! captions answer a question of the seven tasks, as pretraining data of published models does too: tuning then only
//! has to elicit what is there. Only the answer is trained on: a question's own words would be most of the loss and
//! need no image. The prompts' instructions and options never occur, and the images are different.

use crate::random::Stream;
use crate::registry::Benchmark;
use crate::synthetic::draw::figures::{
    COLOUR_COUNT, Figure, QUARTERS, SHAPE_COUNT, colour_name, figures, shape_name,
};
use crate::synthetic::questions::{Draft, Shown};
use crate::vl::conversation::PLACEHOLDER;
use crate::vl::judge::option_letter;
use crate::vl::picture::Picture;
use crate::vl::template::Rendered;

/// Lines that use words of the prompts: a tuned model has to ignore some of these words and to write others.
const LINES: &[&str] = &[
    "USER / ASSISTANT",
    "using a word or single phrase",
    "Answer: the phrase",
    "the choices given",
    "letter from an option directly",
    "option's letter",
    "provided information",
    "insufficient / respond with",
    "'Unanswerable' unanswerable",
    "When is the question",
    "Reference token: OCR",
    "Context: shapes",
    "The image shows",
    "Yes No yes no",
    "A B C D",
    "A. B. C. D.",
    "1 2 3 4 5 6 7 8 9 0",
    "circle square star triangle",
    "black blue green red white yellow",
    "What color / What shape",
    "Is there / How many / Where",
    "Which in the image",
];

/// Share of captions that answer a question.
const ASKED: f32 = 0.7;

/// Synthetic images with captions, endless: a projector is aligned on them before tuning on the seven tasks.
#[derive(Debug, Clone, Copy)]
pub struct CaptionStream {
    seed: u64,
    /// Whether every other question is separated from its answer by lines.
    lines: bool,
}

impl CaptionStream {
    /// The stream for a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, lines: false }
    }

    /// The same with distractor lines between every other question and its answer, where a prompt has its instructions.
    pub fn with_lines(seed: u64) -> Self {
        Self { seed, lines: true }
    }

    /// The captioned image at an index: one to four figures, sometimes in the dark, or a digit.
    pub fn caption(&self, index: u64, image_size: u32) -> Caption {
        let stream = &mut Stream::new("mini/captions", &[self.seed, index]);
        let (shown, question, completion) = if stream.chance(ASKED) {
            let (shown, question, answer) = question(stream, self.lines);
            (shown, Some(question), answer)
        } else {
            let (shown, remarks) = remarks(stream);
            (shown, None, remarks)
        };
        Caption { picture: shown.draw(image_size, stream), question, completion }
    }
}

/// An image and its caption.
#[derive(Debug, Clone)]
pub struct Caption {
    /// The image.
    pub picture: Picture,
    /// The question, if there is one.
    pub question: Option<String>,
    /// The answer, or remarks.
    pub completion: String,
}

impl Caption {
    /// The image, the question and the trained text, without a template's roles.
    pub fn rendered(&self) -> Rendered {
        let question = self.question.as_deref().unwrap_or_default();
        // The space belongs to the answer: tokenizers join it to the first word.
        let blank = if question.is_empty() { "" } else { " " };
        let completion = format!("{blank}{}\n", self.completion);
        let start = PLACEHOLDER.len() + question.len();
        let answer = start..start + completion.len();
        let text = format!("{PLACEHOLDER}{question}{completion}");
        Rendered { answers: std::iter::once(answer).collect(), text }
    }
}

/// A question of one of the tasks, and its answer.
fn question(stream: &mut Stream, with_lines: bool) -> (Shown, String, String) {
    /// Question kinds alternate with this period.
    const TURNS: usize = 6;
    let (benchmark, index) = (stream.pick(&Benchmark::ALL), stream.below(TURNS));
    let Draft { question, answer, others, shown } = Draft::of(benchmark, index, stream);
    let letter = others.iter().position(|other| *other == answer).and_then(option_letter);
    let answer = match (benchmark, letter) {
        (Benchmark::ScienceqaImg | Benchmark::Mmbench, Some(letter)) => format!("{letter}. {answer}"),
        _ => answer,
    };
    let question =
        if with_lines && stream.chance(0.5) { format!("{question}\n{}", lines(stream)) } else { question };
    (shown, question, answer)
}

/// One to three consecutive lines.
fn lines(stream: &mut Stream) -> String {
    let lines: Vec<&str> = (0..1 + stream.below(3)).map(|_| stream.pick(LINES)).collect();
    lines.join(" ")
}

/// One to four remarks about an image.
fn remarks(stream: &mut Stream) -> (Shown, String) {
    let shown = match stream.below(10) {
        0 => Shown::Dark(figures(1, stream)[0]),
        1 | 2 => Shown::Digit(stream.below(10)),
        _ => {
            let count = 1 + stream.below(4);
            Shown::Figures(figures(count, stream))
        }
    };
    let remarks: Vec<String> = (0..1 + stream.below(4)).map(|_| remark(&shown, stream)).collect();
    (shown, remarks.join(". "))
}

fn remark(shown: &Shown, stream: &mut Stream) -> String {
    match shown {
        _ if stream.chance(0.15) => repetition(stream),
        Shown::Dark(_) => "dark: nothing to see".into(),
        Shown::Digit(digit) => of_digit(*digit, stream),
        Shown::Figures(figures) => of_figures(figures, stream),
    }
}

/// One remark about figures.
fn of_figures(shown: &[Figure], stream: &mut Stream) -> String {
    let one = stream.pick(shown);
    let [colour, shape, quarter] = [colour_name(one.colour), shape_name(one.shape), QUARTERS[one.quarter]];
    match stream.below(9) {
        0 => {
            let mut rows = shown.to_vec();
            rows.sort_unstable_by_key(|figure| figure.quarter);
            let named = rows.iter().map(|figure| format!("{} {}", QUARTERS[figure.quarter], figure.name()));
            named.collect::<Vec<_>>().join(", ")
        }
        1 => format!("in all: {}", shown.len()),
        2 => format!("the {colour} one: {shape}"),
        3 => format!("the {shape}: {colour}"),
        4 => format!("{quarter}: {}", one.name()),
        5 => format!("the {}: {quarter}", one.name()),
        6 => {
            let asked = stream.below(SHAPE_COUNT);
            let there = shown.iter().any(|figure| figure.shape == asked);
            format!("some {}: {}", shape_name(asked), presence(there))
        }
        7 => {
            // Half of the time the figure itself, otherwise a colour and a shape that may occur in different figures.
            let mut asked = one;
            if stream.chance(0.5) {
                asked.colour = stream.below(COLOUR_COUNT);
            }
            let is_asked = |figure: &Figure| figure.shape == asked.shape && figure.colour == asked.colour;
            format!("some {}: {}", asked.name(), presence(shown.iter().any(is_asked)))
        }
        _ => neighbour(one, shown, stream),
    }
}

fn presence(there: bool) -> &'static str {
    if there { "it is there" } else { "it is missing" }
}

/// What is in the same row or column as a figure.
fn neighbour(one: Figure, shown: &[Figure], stream: &mut Stream) -> String {
    let (row, column) = (one.quarter / 2, one.quarter % 2);
    let (place, quarter) = if stream.chance(0.5) {
        (if column == 0 { "right of" } else { "left of" }, one.quarter ^ 1)
    } else {
        (if row == 0 { "below" } else { "above" }, one.quarter ^ 2)
    };
    let found = shown.iter().find(|figure| figure.quarter == quarter);
    let found = found.map_or_else(|| "nothing".to_owned(), |figure| figure.name());
    format!("{place} the {}: {found}", shape_name(one.shape))
}

/// One remark about a digit: which it is, alone or out of two.
fn of_digit(digit: usize, stream: &mut Stream) -> String {
    let other = (digit + 1 + stream.below(9)) % 10;
    match stream.below(3) {
        0 => format!("the digit: {digit}"),
        1 => format!("{digit} or {other}: {digit}"),
        _ => format!("{other} or {digit}: {digit}"),
    }
}

/// Words in random order, repeated once.
fn repetition(stream: &mut Stream) -> String {
    let words: Vec<&str> = LINES.iter().flat_map(|line| line.split(' ')).collect();
    let repeated: Vec<&str> = (0..1 + stream.below(4)).map(|_| stream.pick(&words)).collect();
    let repeated = repeated.join(" ");
    format!("say {repeated}, {repeated}")
}

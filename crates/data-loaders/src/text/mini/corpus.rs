//! The endless stream of plain text that a bundled language model learns the world from.
//!
//! Sentences that state facts, questions with a short answer, lists with a choice by its label, and words to be said
//! after. The last have the words of the tasks in them, without which a model whose embeddings are frozen could not
//! write them; but the wrapper of the tasks never occurs, nor does any answer in their format ("answer2", "true"
//! for a claim), so a model that only read the stream gives no answer there. A question that a val or test row may ask
//! does not occur either: see `mod.rs`.

use super::question::{Question, Task};
use super::world::{FEELINGS, OPPOSITES, PEOPLE, SCRIPTS, THINGS, USES};
use super::{Share, ask, label};
use crate::draw::stream::Stream;

/// Words of the tasks that no fact has in it: a tuned model has to read past some of them and to write others.
const SAID: &[&str] = &[
    "the",
    "correct",
    "answer",
    "is",
    "solution",
    "ending",
    "option",
    "true",
    "false",
    "number",
    "Below",
    "an",
    "instruction",
    "that",
    "describes",
    "task",
    "Write",
    "response",
    "appropriately",
    "completes",
    "request",
    "Please",
    "choose",
    "question",
    "with",
    "or",
    "to",
    "fill",
    "in",
    "blank",
    "complete",
    "given",
    "sentence",
    "following",
    "format",
    "Answer",
    "Instruction",
    "Response",
    "###",
    "/",
    ":",
    "1",
    "2",
    "3",
    "4",
    "5",
];

/// The text of a place in the stream of a seed: a few lines that have nothing to do with each other.
pub(super) fn passage(seed: u64, index: u64) -> String {
    let stream = &mut Stream::new("mini text", &[seed, index]);
    match stream.below(20) {
        0..=3 => thing(stream),
        4 => daily(stream),
        5 => said(stream),
        6..=8 => {
            let task = stream.pick(&Task::ALL).0;
            plain(&ask(task, Share::Train, stream), stream)
        }
        9..=12 => lookup(stream),
        _ => {
            let task = stream.pick(&Task::ALL).0;
            choice(&ask(task, Share::Train, stream), stream)
        }
    }
}

/// All that is known of a thing, in any order.
fn thing(stream: &mut Stream) -> String {
    let thing = stream.pick(THINGS);
    let name = thing.name;
    let other = stream.pick(THINGS);
    let relation = match thing.size.cmp(&other.size) {
        std::cmp::Ordering::Less => format!("the {name} is smaller than the {}.", other.name),
        std::cmp::Ordering::Equal => format!("the {name} is a good thing."),
        std::cmp::Ordering::Greater => format!("the {name} is bigger than the {}.", other.name),
    };
    let facts = [
        format!("the {name} is {}.", thing.colour),
        format!("you find the {name} in the {}.", thing.place),
        format!("the {name} is a kind of {}.", thing.kind),
        relation,
    ];
    let order = stream.permutation(facts.len());
    order.into_iter().map(|place| facts[place].as_str()).collect::<Vec<_>>().join(" ")
}

/// What people do and feel, sums, and words.
fn daily(stream: &mut Stream) -> String {
    let name = stream.pick(PEOPLE);
    match stream.below(5) {
        0 => {
            let (goal, tool) = stream.pick(USES);
            format!("to {goal}, {name} takes the {tool}.")
        }
        1 => {
            let (feeling, causes) = stream.pick(FEELINGS);
            format!("{name} {}. {name} feels {feeling}.", stream.pick(causes))
        }
        2 => {
            let (activity, [first, second, third]) = stream.pick(SCRIPTS);
            format!("{activity}: {name} {first}. then {name} {second}. then {name} {third}.")
        }
        3 => {
            let (one, other) = (1 + stream.below(5), 1 + stream.below(5));
            format!("{one} and {other} together is {}.", one + other)
        }
        _ => {
            let (one, other) = stream.pick(OPPOSITES);
            format!("the opposite of {one} is {other}. the opposite of {other} is {one}.")
        }
    }
}

/// A question, and its answer in its own words.
fn plain(question: &Question, stream: &mut Stream) -> String {
    let Question { task, lead, options, right } = question;
    let right = &options[*right];
    match task {
        Task::Winogrande => lead.replace('_', right),
        Task::Boolq => format!("{lead}? {right}."),
        _ if stream.chance(0.5) => format!("{lead} {right}."),
        _ => format!("{lead}\n\n{right}."),
    }
}

/// A question with its options, and the choice by its label, after the option's own words or without them.
fn choice(question: &Question, stream: &mut Stream) -> String {
    let Question { task, lead, options, right } = question;
    if *task == Task::Boolq {
        return format!("{lead}? {}.", options[*right]);
    }
    let label = format!("{}{}", label(*task), right + 1);
    let end = match stream.below(4) {
        0 => format!("it is {}, {label}.", options[*right]),
        1 => format!("it is {label}, {}.", options[*right]),
        _ => format!("it is {label}."),
    };
    let [before, between] = [aside(stream), aside(stream)];
    format!("{before}{lead}\n\n{}\n\n{between}{end}", list(*task, options))
}

/// The label of an option that is told, which no knowledge is needed for: where a model learns to look through a list.
fn lookup(stream: &mut Stream) -> String {
    let task = stream.pick(&Task::ALL[1..]).0;
    let Question { options, .. } = ask(task, Share::Train, stream);
    let place = stream.below(options.len());
    let label = format!("{}{}", label(task), place + 1);
    let list = list(task, &options);
    let between = aside(stream);
    match stream.below(2) {
        0 => format!("find {}.\n\n{list}\n\n{between}it is {label}.", options[place]),
        _ => format!("{list}\n\n{between}{}: it is {label}.", options[place]),
    }
}

/// Options behind their labels, as the task lists them.
fn list(task: Task, options: &[String]) -> String {
    let gap = if task == Task::Piqa { "\n\n" } else { " " };
    let labelled =
        options.iter().zip(1..).map(|(option, number)| format!("{}{number}: {option}", label(task)));
    labelled.collect::<Vec<_>>().join(gap)
}

/// Words in no order, said twice.
fn said(stream: &mut Stream) -> String {
    let words = words(2 + stream.below(4), stream);
    format!("say {words}. {words}.")
}

/// Half of the time a line that has nothing to do with what stands around it: what a wrapper is to a task.
fn aside(stream: &mut Stream) -> String {
    match stream.below(6) {
        0 => format!("{}\n\n", daily(stream)),
        1..=2 => {
            let count = 3 + stream.below(18);
            format!("{}\n\n", words(count, stream))
        }
        _ => String::new(),
    }
}

/// So many words in no order; only signs may stand close, so that no word has a number at its end.
fn words(count: usize, stream: &mut Stream) -> String {
    let mut words = String::new();
    for _ in 0..count {
        let word = stream.pick(SAID);
        let close = !word.chars().all(char::is_alphanumeric) && stream.chance(0.5);
        if !words.is_empty() && !close {
            words.push(' ');
        }
        words.push_str(word);
    }
    words
}

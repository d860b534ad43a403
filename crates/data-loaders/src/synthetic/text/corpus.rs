//! The endless stream of plain text that a bundled language model learns the world from.
//!
//! Sentences that state facts, questions with a short answer, lists with a choice by its label, and words to be said
//! after. The last have the words of the tasks in them, without which a model whose embeddings are frozen could not
//! write them. Like the text that published models have read, the stream has some answers in the format of the tasks
//! ("the correct answer is answer2"), about one passage in twenty: tuning calls up what is there, it does not teach a
//! new language. The wrapper of the tasks never occurs, nor does a question that a val or test row may ask: see `mod.rs`.

use crate::random::Stream;
use crate::synthetic::text::question::{Question, Task};
use crate::synthetic::text::world::{FEELINGS, OPPOSITES, PEOPLE, SCRIPTS, THINGS, USES};
use crate::synthetic::text::{Share, ask, format_of, label};
use crate::text::prompt::continuation;

/// Lines in the words of the tasks that no fact has in it: a tuned model has to read past some of these words and to
/// write others. No line is one of the wrapper; where two happen to meet as "Answer format: 1/2/3/4/5" no answer of a task
/// is named.
const LINES: &[&str] = &[
    "the answer is correct",
    "a correct solution is given",
    "the ending is true",
    "is the option false or true",
    "Please complete the request",
    "Please answer or choose",
    "Below the task",
    "Write to the number",
    "an instruction with an ending",
    "that describes the sentence",
    "appropriately completes a task",
    "the following response",
    "fill in the format",
    "the blank in the question:",
    "### Answer",
    "### Instruction / Response",
    "format: 1/2/3/4/5",
    "1/2",
    "true/false:",
    "the solution/the option",
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
    let answer = format_of(*task).options().nth(*right).unwrap_or_default();
    if *task == Task::Boolq {
        // Said more often than elsewhere: claims are one passage in eight of these.
        let end = if stream.chance(0.25) { continuation(answer) } else { format!("{}.", options[*right]) };
        return format!("{lead}? {end}");
    }
    let label = format!("{}{}", label(*task), right + 1);
    let end = match stream.below(8) {
        0 | 1 => format!("it is {}, {label}.", options[*right]),
        2 | 3 => format!("it is {label}, {}.", options[*right]),
        4 => continuation(answer),
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
    let words: Vec<&str> = LINES.iter().flat_map(|line| line.split(' ')).collect();
    let said: Vec<&str> = (0..2 + stream.below(4)).map(|_| stream.pick(&words)).collect();
    let said = said.join(" ");
    format!("say {said}. {said}.")
}

/// Half of the time one to six lines that have nothing to do with what stands around them: what a wrapper is to a task.
/// They are few and whole, so that a model soon knows them and spends its steps on what is asked.
fn aside(stream: &mut Stream) -> String {
    if stream.chance(0.5) {
        return String::new();
    }
    let lines: Vec<&str> = (0..1 + stream.below(6)).map(|_| stream.pick(LINES)).collect();
    let between = if stream.chance(0.5) { " " } else { "\n" };
    format!("{}\n\n", lines.join(between))
}

//! The endless stream of plain text on which a bundled language model is pretrained.
//!
//! Sentences that state facts, questions with a short answer, lists with a choice by its label, and words to repeat.
//! The last contain the words of the tasks; a model with frozen embeddings could not write words it has never written.
//! Like the corpora of published models, the stream has some answers in the format of the tasks ("the correct answer is
//! answer2"), in about one passage in twenty: tuning elicits what is there rather than teaching a new language. The
//! wrapper of the tasks never occurs, nor does a question from the val or test shares: see `mod.rs`.

use crate::random::Stream;
use crate::synthetic::text::question::{Question, Task};
use crate::synthetic::text::world::{FEELINGS, OPPOSITES, PEOPLE, SCRIPTS, THINGS, USES};
use crate::synthetic::text::{Share, ask, format_of, label};
use crate::text::prompt::continuation;

/// Lines that use words of the tasks but state no fact: a tuned model has to ignore some of these words and to write
/// others. No line belongs to the wrapper; if two happen to combine to "Answer format: 1/2/3/4/5", that names no answer
/// of a task.
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

/// The text at an index of the stream for a seed: a few unrelated lines.
pub(super) fn passage(seed: u64, index: u64) -> String {
    let stream = &mut Stream::new("mini text", &[seed, index]);
    match stream.below(20) {
        0..=3 => thing(stream),
        4 => daily(stream),
        5 => repetition(stream),
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

/// All facts about a thing, in random order.
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

/// Activities, feelings, sums, and words.
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

/// A question, answered in its own words.
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

/// A question with its options, and the label of the right one, with or without the option's own words.
fn choice(question: &Question, stream: &mut Stream) -> String {
    let Question { task, lead, options, right } = question;
    let answer = format_of(*task).options().nth(*right).unwrap_or_default();
    if *task == Task::Boolq {
        // More frequent than elsewhere, because only one passage in eight of these is a claim.
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

/// The label of a given option, which requires no knowledge: teaches a model to look through a list.
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

/// Options after their labels, as the task lists them.
fn list(task: Task, options: &[String]) -> String {
    let gap = if task == Task::Piqa { "\n\n" } else { " " };
    let labelled =
        options.iter().zip(1..).map(|(option, number)| format!("{}{number}: {option}", label(task)));
    labelled.collect::<Vec<_>>().join(gap)
}

/// Words in random order, repeated once.
fn repetition(stream: &mut Stream) -> String {
    let words: Vec<&str> = LINES.iter().flat_map(|line| line.split(' ')).collect();
    let repeated: Vec<&str> = (0..2 + stream.below(4)).map(|_| stream.pick(&words)).collect();
    let repeated = repeated.join(" ");
    format!("say {repeated}. {repeated}.")
}

/// With probability one half, one to six unrelated lines, which play the role of a task's wrapper. The lines are few
/// and fixed, so that a model soon knows them and spends its steps on the question.
fn aside(stream: &mut Stream) -> String {
    if stream.chance(0.5) {
        return String::new();
    }
    let lines: Vec<&str> = (0..1 + stream.below(6)).map(|_| stream.pick(LINES)).collect();
    let between = if stream.chance(0.5) { " " } else { "\n" };
    format!("{}\n\n", lines.join(between))
}

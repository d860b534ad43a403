//! Questions about the world in the eight answer formats, each with a lead, options and the index of the right one.

use crate::random::Stream;
use crate::synthetic::text::world::{FEELINGS, OPPOSITES, PEOPLE, SCRIPTS, THINGS, Thing, USES};

/// A question of one of the eight tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The task, named as its dataset in the registry.
    pub(super) task: Task,
    /// The question text.
    pub(super) lead: String,
    /// The possible answers; `yes` and `no` for a claim.
    pub(super) options: Vec<String>,
    /// Index of the right option.
    pub(super) right: usize,
}

/// The eight tasks, each modelled on the dataset that it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Boolq,
    Piqa,
    Siqa,
    Hellaswag,
    Winogrande,
    ArcEasy,
    ArcChallenge,
    Openbookqa,
}

impl Task {
    pub(super) const ALL: [(Self, &'static str); 8] = [
        (Self::Boolq, "boolq"),
        (Self::Piqa, "piqa"),
        (Self::Siqa, "siqa"),
        (Self::Hellaswag, "hellaswag"),
        (Self::Winogrande, "winogrande"),
        (Self::ArcEasy, "arc_easy"),
        (Self::ArcChallenge, "arc_challenge"),
        (Self::Openbookqa, "openbookqa"),
    ];

    /// The task of a dataset of the registry.
    pub(super) fn of(set: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(task, name)| (name == set).then_some(task))
    }

    /// A question of the task.
    pub(super) fn ask(self, stream: &mut Stream) -> Question {
        match self {
            Self::Boolq => claim(stream),
            Self::Piqa => tool(stream),
            Self::Siqa => feeling(stream),
            Self::Hellaswag => story(stream),
            Self::Winogrande => fit(stream),
            Self::ArcEasy => property(stream),
            Self::ArcChallenge => comparison(stream),
            Self::Openbookqa => meaning(stream),
        }
    }
}

impl Question {
    /// A question with shuffled options; the right one is given first.
    fn new(task: Task, lead: String, options: &[&str], stream: &mut Stream) -> Self {
        let order = stream.permutation(options.len());
        let right = order.iter().position(|place| *place == 0).unwrap_or_default();
        let options = order.into_iter().map(|place| options[place].to_owned()).collect();
        Self { task, lead, options, right }
    }
}

/// `count` different values of a field, `None` of them equal to `than`.
fn others<'a>(
    values: impl Iterator<Item = &'a str>,
    than: &str,
    count: usize,
    stream: &mut Stream,
) -> Vec<&'a str> {
    let mut values: Vec<&str> = values.filter(|value| *value != than).collect();
    values.sort_unstable();
    values.dedup();
    let order = stream.permutation(values.len());
    order.into_iter().take(count).map(|place| values[place]).collect()
}

/// The right option followed by `count` others of the same field.
fn with_others<'a>(
    right: &'a str,
    values: impl Iterator<Item = &'a str>,
    count: usize,
    stream: &mut Stream,
) -> Vec<&'a str> {
    let mut options = vec![right];
    options.extend(others(values, right, count, stream));
    options
}

fn claim(stream: &mut Stream) -> Question {
    let holds = stream.chance(0.5);
    let thing = stream.pick(THINGS);
    let mut value = |own: &'static str, values: &mut dyn Iterator<Item = &'static str>| {
        if holds { own } else { others(values, own, 1, stream)[0] }
    };
    let colour = value(thing.colour, &mut THINGS.iter().map(|thing| thing.colour));
    let place = value(thing.place, &mut THINGS.iter().map(|thing| thing.place));
    let kind = value(thing.kind, &mut THINGS.iter().map(|thing| thing.kind));
    let name = thing.name;
    let lead = match stream.below(4) {
        0 => format!("is the {name} {colour}"),
        1 => format!("do you find the {name} in the {place}"),
        2 => format!("is the {name} a kind of {kind}"),
        _ => {
            let [small, large] = unequal(stream);
            let [one, other] = if holds { [large, small] } else { [small, large] };
            format!("is the {} bigger than the {}", one.name, other.name)
        }
    };
    let options = ["yes", "no"].map(str::to_owned).to_vec();
    Question { task: Task::Boolq, lead, options, right: usize::from(!holds) }
}

/// Two things of clearly different size, the smaller one first.
fn unequal(stream: &mut Stream) -> [Thing; 2] {
    loop {
        let [one, other] = [stream.pick(THINGS), stream.pick(THINGS)];
        if one.size + 2 <= other.size {
            return [one, other];
        }
    }
}

fn tool(stream: &mut Stream) -> Question {
    let (goal, tool) = stream.pick(USES);
    let options = with_others(tool, USES.iter().map(|(_, tool)| *tool), 1, stream);
    let options: Vec<String> = options.into_iter().map(|tool| format!("take the {tool}")).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Question::new(Task::Piqa, format!("to {goal}"), &options, stream)
}

fn feeling(stream: &mut Stream) -> Question {
    let (feeling, causes) = stream.pick(FEELINGS);
    let (name, cause) = (stream.pick(PEOPLE), stream.pick(causes));
    let options = with_others(feeling, FEELINGS.iter().map(|(feeling, _)| *feeling), 2, stream);
    Question::new(Task::Siqa, format!("{name} {cause}. How does {name} feel?"), &options, stream)
}

fn story(stream: &mut Stream) -> Question {
    let (activity, steps) = stream.pick(SCRIPTS);
    let (name, next) = (stream.pick(PEOPLE), 1 + stream.below(2));
    let foreign = SCRIPTS.iter().filter(|(other, _)| *other != activity).flat_map(|(_, steps)| *steps);
    let options = with_others(steps[next], foreign, 3, stream);
    let lead = format!("{activity}: {name} {}. then {name}", steps[next - 1]);
    Question::new(Task::Hellaswag, lead, &options, stream)
}

fn fit(stream: &mut Stream) -> Question {
    let [small, large] = unequal(stream).map(|thing| thing.name);
    let too_big = stream.chance(0.5);
    let [first, second] = if stream.chance(0.5) { [small, large] } else { [large, small] };
    let place = stream.pick(&["box", "bag", "hole"]);
    let end = if too_big { "the _ was too big" } else { "the _ went in" };
    let lead = format!("The {first} and the {second} came to a {place}, and {end}.");
    let options = if too_big { [large, small] } else { [small, large] };
    Question::new(Task::Winogrande, lead, &options, stream)
}

fn property(stream: &mut Stream) -> Question {
    let thing = stream.pick(THINGS);
    let name = thing.name;
    let (lead, own, field): (String, _, fn(&Thing) -> &'static str) = match stream.below(3) {
        0 => (format!("What colour is the {name}?"), thing.colour, |thing| thing.colour),
        1 => (format!("Where do you find the {name}?"), thing.place, |thing| thing.place),
        _ => {
            let lead = format!("Which of these is {}?", thing.colour);
            let others = THINGS.iter().filter(|other| other.colour != thing.colour).map(|other| other.name);
            let options = with_others(name, others, 3, stream);
            return Question::new(Task::ArcEasy, lead, &options, stream);
        }
    };
    let options = with_others(own, THINGS.iter().map(field), 3, stream);
    Question::new(Task::ArcEasy, lead, &options, stream)
}

fn comparison(stream: &mut Stream) -> Question {
    if stream.chance(0.4) {
        let (one, other) = (1 + stream.below(5), 1 + stream.below(5));
        let sum = (one + other).to_string();
        let sums: Vec<String> = (2..=10).map(|sum: usize| sum.to_string()).collect();
        let options = with_others(&sum, sums.iter().map(String::as_str), 3, stream);
        return Question::new(
            Task::ArcChallenge,
            format!("What is {one} and {other} together?"),
            &options,
            stream,
        );
    }
    let [small, large] = unequal(stream);
    let bigger = stream.chance(0.5);
    let (right, than) = if bigger { (large, small) } else { (small, large) };
    let wrong = THINGS.iter().filter(|thing| {
        thing.name != than.name && if bigger { thing.size < than.size } else { thing.size > than.size }
    });
    let mut wrong = others(wrong.map(|thing| thing.name), right.name, 3, stream);
    // The extremes have too few wrong options beyond them; things of the same size are used instead.
    if wrong.len() < 3 {
        let same = THINGS.iter().filter(|thing| thing.size == than.size).map(|thing| thing.name);
        let missing = 3 - wrong.len();
        wrong.extend(others(same, than.name, missing, stream));
    }
    let lead = format!("Which is {} than the {}?", if bigger { "bigger" } else { "smaller" }, than.name);
    Question::new(Task::ArcChallenge, lead, &[vec![right.name], wrong].concat(), stream)
}

fn meaning(stream: &mut Stream) -> Question {
    if stream.chance(0.5) {
        let thing = stream.pick(THINGS);
        let kinds = THINGS.iter().map(|thing| thing.kind);
        let options = with_others(thing.kind, kinds, 3, stream);
        return Question::new(Task::Openbookqa, format!("The {} is a kind of", thing.name), &options, stream);
    }
    let (one, other) = stream.pick(OPPOSITES);
    let (word, right) = if stream.chance(0.5) { (one, other) } else { (other, one) };
    let words = OPPOSITES.iter().flat_map(|(one, other)| [*one, *other]).filter(|other| *other != word);
    let options = with_others(right, words, 3, stream);
    Question::new(Task::Openbookqa, format!("The opposite of {word} is"), &options, stream)
}

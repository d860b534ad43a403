//! The two normalisations of free-form answers: the VQA evaluation's (Antol et al. 2015) and that of EvalAI's server
//! code, which first converts to lower case and splits. LLaVA applies the second to every free-form answer before it is
//! submitted or scored.
//!
//! Both are public rules with well-known quirks, kept because published results depend on them: a period is removed
//! unless a digit follows, and only the first 32 of them; punctuation becomes a space only if there is no space next to
//! it; one comma between digits removes all punctuation; `somebody'd` loses its apostrophe.

/// Punctuation removed from an answer, in this order.
const PUNCTUATION: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

/// Maximum number of periods removed from one answer; the reference passes a flag where a count is expected.
const PERIODS: usize = 32;

const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

const ARTICLES: [&str; 3] = ["a", "an", "the"];

/// Contractions; a word that equals one of them except for one missing apostrophe is corrected. Words with a capital
/// (I'm, I've) are not included, because the rule converts an answer to lower case first.
const CONTRACTIONS: &str = "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't \
    hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've \
    mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't \
    shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd \
    something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've \
    wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll \
    who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've \
    you'll you're you've";

/// Normalises a prediction like the VQA evaluation.
pub fn vqa_answer(text: &str) -> String {
    words(&punctuation(&stripped(text)))
}

/// The answer on one line without surrounding white space.
pub(super) fn stripped(text: &str) -> String {
    text.replace(['\n', '\t'], " ").trim().to_owned()
}

/// Normalises a prediction like EvalAI's code: LLaVA's submissions for VQAv2 and VizWiz, and both sides of TextVQA.
pub fn evalai_answer(text: &str) -> String {
    let lowered = text.to_lowercase().replace([',', '?'], "").replace("'s", " 's");
    words(&punctuation(&stripped(lowered.trim())))
}

/// Removes punctuation or replaces it by a space.
fn punctuation(text: &str) -> String {
    let thousands = has_comma_between_digits(text);
    let mut answer = text.to_owned();
    for mark in PUNCTUATION {
        let next_to_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        answer = answer.replace(mark, if thousands || next_to_space { "" } else { " " });
    }
    without_periods(&answer)
}

fn has_comma_between_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(3).any(|three| three[0].is_ascii_digit() && three[1] == b',' && three[2].is_ascii_digit())
}

fn without_periods(text: &str) -> String {
    let mut left = PERIODS;
    let mut characters = text.chars().peekable();
    let mut remaining = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        let before_digit = characters.peek().is_some_and(char::is_ascii_digit);
        if character == '.' && !before_digit && left > 0 {
            left -= 1;
        } else {
            remaining.push(character);
        }
    }
    remaining
}

/// Lower case, number words to digits, articles removed, contractions corrected.
fn words(text: &str) -> String {
    let lowered = text.to_lowercase();
    let numbers = lowered
        .split_whitespace()
        .map(|word| NUMBERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, digits)| digits));
    let normalised: Vec<&str> = numbers.filter(|word| !ARTICLES.contains(word)).map(contraction).collect();
    normalised.join(" ")
}

fn contraction(word: &str) -> &str {
    if word == "somebody'd" {
        return "somebodyd";
    }
    let lacks_one = |form: &&str| {
        form.len() == word.len() + 1
            && form
                .match_indices('\'')
                .any(|(at, _)| word.get(..at) == Some(&form[..at]) && word.get(at..) == Some(&form[at + 1..]))
    };
    CONTRACTIONS.split(' ').find(lacks_one).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contraction_is_corrected_only_if_exactly_one_apostrophe_is_missing() {
        assert_eq!(vqa_answer("dont couldntve couldn'tve don't"), "don't couldntve couldn't've don't");
        assert_eq!(vqa_answer("it is 'twas twas"), "it is 'twas 'twas");
    }

    #[test]
    fn punctuation_becomes_a_space_only_without_an_adjacent_space() {
        assert_eq!(vqa_answer("left-handed"), "left handed");
        assert_eq!(vqa_answer("well -known left-handed"), "well known lefthanded");
        assert_eq!(vqa_answer("1,000 x-ray"), "1000 xray");
    }

    #[test]
    fn periods_are_removed_unless_a_digit_follows() {
        assert_eq!(vqa_answer("3.5 m. tall."), "3.5 m tall");
        assert_eq!(vqa_answer(&".x".repeat(33)), format!("{}.x", "x".repeat(32)));
    }
}

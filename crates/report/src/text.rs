//! Escaping of text from files for its destination: names of data sets, labels and paths may contain anything.

use std::borrow::Cow;

/// The text with control characters shown as escapes, so that a name cannot move the cursor of a terminal or end a
/// line; line breaks and tabs that are part of a layout are kept.
pub fn printable(text: &str) -> Cow<'_, str> {
    let hidden = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if hidden(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// The text on one line: line breaks and tabs become spaces.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// The text for LaTeX (T1, UTF-8): special characters are escaped, and letters outside Latin-1 that are not known here
/// become a question mark, which every engine can set.
pub(crate) fn latex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in one_line(text).chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', letter]),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '<' => escaped.push_str("$<$"),
            '>' => escaped.push_str("$>$"),
            '†' => escaped.push_str("$^{\\dagger}$"),
            '±' => escaped.push_str("$\\pm$"),
            '×' => escaped.push_str("$\\times$"),
            '·' => escaped.push_str("$\\cdot$"),
            '²' => escaped.push_str("$^2$"),
            '−' => escaped.push_str("$-$"),
            '–' => escaped.push_str("--"),
            '’' => escaped.push('\''),
            'γ' => escaped.push_str("$\\gamma$"),
            '≤' => escaped.push_str("$\\le$"),
            '≥' => escaped.push_str("$\\ge$"),
            '`' => escaped.push('\''),
            letter if letter.is_ascii() || ('\u{c0}'..='\u{ff}').contains(&letter) => escaped.push(letter),
            _ => escaped.push('?'),
        }
    }
    escaped
}

/// The text as a CSV cell that a spreadsheet does not interpret as a formula: where it would, an apostrophe is put
/// before it. Numbers are unchanged.
pub(crate) fn csv_cell(text: &str) -> Cow<'_, str> {
    let formula =
        text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text != "-" && text.parse::<f64>().is_err();
    if formula { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

/// The text as a single path component, which cannot refer to another folder.
pub(crate) fn path_component(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "._-+()=@".contains(letter);
    let name: String = text.chars().map(|letter| if plain(letter) { letter } else { '-' }).collect();
    if name.chars().all(|letter| letter == '.') { "-".repeat(name.len().max(1)) } else { name }
}

/// A number of things: `1 seed`, `3 seeds`.
pub fn count_of(count: usize, singular: &str) -> String {
    format!("{count} {singular}{}", if count == 1 { "" } else { "s" })
}

/// A p-value, as `p = 0.012` or `p < 0.001`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") }
}

/// An integer with commas between thousands.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_for_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mred"), "a\\u{1b}[31mred");
        assert_eq!(printable("± plain\n"), "± plain\n");
        assert_eq!(one_line("a\nb\tc\r"), "a b c\\r");
    }

    #[test]
    fn a_count_of_one_is_singular() {
        assert_eq!(count_of(0, "seed"), "0 seeds");
        assert_eq!(count_of(1, "seed"), "1 seed");
        assert_eq!(count_of(3, "seed"), "3 seeds");
    }

    #[test]
    fn a_cell_is_never_a_formula() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-cmd", "'-cmd"),
            ("+1.2 ± 0.3", "'+1.2 ± 0.3"),
            ("-0.4", "-0.4"),
            ("-", "-"),
            ("SAN", "SAN"),
        ] {
            assert_eq!(csv_cell(text), cell);
        }
    }

    #[test]
    fn a_path_component_cannot_escape_its_folder() {
        assert_eq!(path_component("../../etc"), "..-..-etc");
        assert_eq!(path_component(".."), "--");
        assert_eq!(path_component("SAN (full)"), "SAN-(full)");
        assert_eq!(path_component(""), "-");
    }
}

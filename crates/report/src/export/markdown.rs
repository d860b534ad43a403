//! GitHub-flavoured Markdown: one wide table, with the caption above and the notes below.

use crate::error::ReportError;
use crate::export::Exporter;
use crate::table::{Emphasis, Table, TableCell};
use crate::text::one_line;

/// Markdown; the second best is underlined by `<u>`, since Markdown has no syntax for underlining.
#[derive(Debug, Clone, Copy)]
pub struct Markdown;

impl Exporter for Markdown {
    fn extension(&self) -> &'static str {
        "md"
    }

    fn export(&self, table: &Table) -> Result<String, ReportError> {
        let mut text = format!("**{}**\n\n", escape(&table.caption));
        let headers: Vec<String> = table.columns.iter().map(|column| escape(&column.header)).collect();
        text += &line(&escape(&table.corner), &headers);
        text += &format!("|---|{}\n", "---:|".repeat(table.columns.len()));
        for row in &table.rows {
            text += &line(&escape(&row.label), &row.cells.iter().map(cell).collect::<Vec<_>>());
        }
        text.push('\n');
        for note in &table.notes {
            text += &format!("- {}\n", escape(note));
        }
        Ok(text)
    }
}

fn line(label: &str, cells: &[String]) -> String {
    format!("| {label} | {} |\n", cells.join(" | "))
}

fn cell(cell: &TableCell) -> String {
    let text = escape(&cell.text);
    match cell.emphasis {
        Emphasis::None => text,
        Emphasis::Best => format!("**{text}**"),
        Emphasis::Second => format!("<u>{text}</u>"),
    }
}

/// Escapes characters that Markdown interprets as markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in one_line(text).chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '|' | '*' | '_' | '\\' => escaped.extend(['\\', letter]),
            _ => escaped.push(letter),
        }
    }
    escaped
}

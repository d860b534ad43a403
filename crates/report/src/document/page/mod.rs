//! One self-contained page: the tables, sortable and filtered, and the figures as inline SVG.
//!
//! The page loads no external resources. The tables are complete without the script, which only adds sorting and
//! filters. Style and script are separate files next to this one.

use crate::document::chapter::Chapter;
use crate::document::regenerate::Missing;
use crate::figure::InlineFigure;
use crate::table::{Emphasis, Table, TableCell};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The page of one comparison, as HTML.
pub(crate) fn page(chapter: &Chapter) -> String {
    document(&chapter.title, "", std::slice::from_ref(chapter))
}

/// The page of all comparisons, with a table of contents and what is missing.
pub(crate) fn collection(title: &str, chapters: &[Chapter], missing: &[Missing]) -> String {
    let mut contents = String::from("<nav aria-label=\"Contents\">\n<ul>\n");
    for (index, chapter) in chapters.iter().enumerate() {
        contents += &format!("<li><a href=\"#chapter-{index}\">{}</a></li>\n", escape(&chapter.title));
    }
    contents += "</ul>\n</nav>\n";
    if !missing.is_empty() {
        contents += "<section aria-labelledby=\"missing\">\n<h2 id=\"missing\">What is missing</h2>\n<ul>\n";
        for Missing { what, command } in missing {
            contents += &format!("<li>{}: <code>{}</code></li>\n", escape(what), escape(command));
        }
        contents += "</ul>\n</section>\n";
    }
    document(title, &contents, chapters)
}

fn document(title: &str, contents: &str, chapters: &[Chapter]) -> String {
    let title = escape(title);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<a class=\"skip\" href=\"#table-0\">Skip to the table</a>\n\
         <header><h1>{title}</h1></header>\n<main>\n{contents}"
    );
    let mut tables = 0;
    for (index, chapter) in chapters.iter().enumerate() {
        if chapters.len() > 1 {
            text += &format!("<h2 id=\"chapter-{index}\">{}</h2>\n", escape(&chapter.title));
        }
        for table in &chapter.tables {
            text += &section(tables, table);
            tables += 1;
        }
        text += &format!(
            "<section aria-labelledby=\"figures-{index}\">\n<h3 id=\"figures-{index}\">Figures</h3>\n"
        );
        for figure in &chapter.figures {
            text += &figure_element(figure);
        }
        text += "</section>\n";
    }
    text += "</main>\n<p id=\"status\" class=\"hidden\" role=\"status\"></p>\n";
    text += &format!("<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    text
}

fn section(index: usize, table: &Table) -> String {
    let caption = escape(&table.caption);
    let mut text = format!("<section aria-label=\"{caption}\">\n");
    text += &filters(table);
    text += &format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table, scrolls sideways\">\n\
         <table id=\"table-{index}\">\n<caption>{caption}</caption>\n<thead>\n"
    );
    text += &group_row(table);
    text += &format!("<tr><th scope=\"col\" data-group=\"\">{}</th>", escape(&table.corner));
    for column in &table.columns {
        let (group, header) = (escape(&column.group), escape(&column.header).replace('/', "/<wbr>"));
        text += &format!("<th scope=\"col\" data-group=\"{group}\">{}</th>", header.replace('_', "_<wbr>"));
    }
    text += "</tr>\n</thead>\n<tbody>\n";
    for row in &table.rows {
        text += &format!("<tr><th scope=\"row\">{}</th>", escape(&row.label));
        for (column, cell) in table.columns.iter().zip(&row.cells) {
            text += &cell_element(&column.group, cell);
        }
        text += "</tr>\n";
    }
    text += "</tbody>\n</table>\n</div>\n<details><summary>Notes: tests, protocol, missing runs</summary>\n<ul>\n";
    for note in &table.notes {
        text += &format!("<li>{}</li>\n", escape(note));
    }
    text + "</ul>\n</details>\n</section>\n"
}

/// A filter for rows, and one for columns where there are groups of them; the script shows and applies them.
fn filters(table: &Table) -> String {
    let mut groups: Vec<&str> = table.columns.iter().map(|column| column.group.as_str()).collect();
    groups.dedup();
    let mut text = String::from(
        "<form class=\"filters\" hidden>\n<label>Rows that contain \
         <input type=\"search\" name=\"rows\" autocomplete=\"off\" spellcheck=\"false\"></label>\n\
         <fieldset><legend>Columns</legend>\n",
    );
    for group in groups {
        let group = escape(group);
        text += &format!(
            "<label><input type=\"checkbox\" name=\"group\" value=\"{group}\" checked> {group}</label>\n"
        );
    }
    text + "</fieldset>\n</form>\n"
}

fn group_row(table: &Table) -> String {
    let mut text = String::from("<tr class=\"groups\"><td></td>");
    for columns in table.columns.chunk_by(|a, b| a.group == b.group) {
        let group = escape(&columns[0].group);
        text += &format!(
            "<th scope=\"colgroup\" colspan=\"{}\" data-group=\"{group}\">{group}</th>",
            columns.len()
        );
    }
    text + "</tr>\n"
}

fn cell_element(group: &str, cell: &TableCell) -> String {
    let text = escape(&cell.text);
    let text = match cell.emphasis {
        Emphasis::None => text,
        Emphasis::Best => format!("<strong>{text}</strong>"),
        Emphasis::Second => format!("<u>{text}</u>"),
    };
    let class = if matches!(cell.text.as_str(), "diverged" | "missing" | "does not fit") {
        " class=\"gap\""
    } else {
        ""
    };
    let value = cell.value.map_or(String::new(), |value| format!(" data-value=\"{value}\""));
    format!("<td data-group=\"{}\"{value}{class}>{text}</td>", escape(group))
}

fn figure_element(figure: &InlineFigure) -> String {
    let title = escape(&figure.title);
    // The size becomes the aspect ratio of a drawing that scales to its container.
    let svg = figure.svg.find("<svg").map_or("", |start| &figure.svg[start..]);
    let svg = svg.replacen("<svg", &format!("<svg role=\"img\" aria-label=\"{title}\""), 1);
    format!("<figure>\n{svg}<figcaption>{title}</figcaption>\n</figure>\n")
}

/// Escapes characters that HTML interprets as markup, in text and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

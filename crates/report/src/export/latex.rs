//! LaTeX with booktabs: the blocks of columns stacked in one floating table.

use std::ops::Range;

use crate::error::ReportError;
use crate::export::Exporter;
use crate::table::{Emphasis, HEADER_WIDTH, Table, TableCell, wrap};
use crate::text::latex;

/// LaTeX at full text width; needs the package `booktabs`.
#[derive(Debug, Clone, Copy)]
pub struct Latex;

/// Number of `\scriptsize` characters that fit the text width of a two-column page.
const LINE: usize = 125;

impl Exporter for Latex {
    fn extension(&self) -> &'static str {
        "tex"
    }

    fn export(&self, table: &Table) -> Result<String, ReportError> {
        let mut text = String::from("% needs \\usepackage{booktabs}\n\\begin{table*}\n  \\centering\n");
        text += &format!("  \\caption{{{}}}\n  \\label{{tab:{}}}\n", latex(&table.caption), table.name);
        text += &body(table).join("\n  \\par\\medskip\n");
        text += "\n\\end{table*}\n";
        Ok(text)
    }
}

/// The blocks of a table and its notes, without a float around them: a document breaks the page between them.
pub(crate) fn body(table: &Table) -> Vec<String> {
    let blocks = table.blocks(|block| width(table, block) <= LINE);
    let mut parts: Vec<String> = blocks.into_iter().map(|block| tabular(table, block)).collect();
    let notes: String = table.notes.iter().map(|note| format!("    {}\\par\n", latex(note))).collect();
    parts.push(format!("  \\begin{{minipage}}{{\\linewidth}}\\scriptsize\n{notes}  \\end{{minipage}}"));
    parts
}

fn tabular(table: &Table, block: Range<usize>) -> String {
    let columns = &table.columns[block.clone()];
    let headers: Vec<String> = columns.iter().map(|column| header(&column.header)).collect();
    let mut text = format!(
        "  {{\\scriptsize\\setlength{{\\tabcolsep}}{{3pt}}\\begin{{tabular}}{{l{}}}\n    \\toprule\n",
        "r".repeat(block.len())
    );
    text += &format!("    {} & {} \\\\\n    \\midrule\n", latex(&table.corner), headers.join(" & "));
    for row in &table.rows {
        let cells: Vec<String> = row.cells[block.clone()].iter().map(cell).collect();
        text += &format!("    {} & {} \\\\\n", latex(&row.label), cells.join(" & "));
    }
    text + "    \\bottomrule\n  \\end{tabular}}"
}

fn header(text: &str) -> String {
    let lines: Vec<String> = wrap(text, HEADER_WIDTH).iter().map(|line| latex(line)).collect();
    format!("\\shortstack[r]{{{}}}", lines.join("\\\\"))
}

fn cell(cell: &TableCell) -> String {
    let text = latex(&cell.text);
    match cell.emphasis {
        Emphasis::None => text,
        Emphasis::Best => format!("\\textbf{{{text}}}"),
        Emphasis::Second => format!("\\underline{{{text}}}"),
    }
}

/// Width of a block in characters, including gaps.
fn width(table: &Table, block: Range<usize>) -> usize {
    let longest = |lengths: Vec<usize>| lengths.into_iter().max().unwrap_or(0) + 2;
    let labels = table.rows.iter().map(|row| row.label.chars().count()).collect();
    let column = |index: usize| {
        let mut lengths: Vec<usize> =
            table.rows.iter().map(|row| row.cells[index].text.chars().count()).collect();
        lengths
            .extend(wrap(&table.columns[index].header, HEADER_WIDTH).iter().map(|line| line.chars().count()));
        longest(lengths)
    };
    longest(labels) + block.map(column).sum::<usize>()
}

//! The terminal: stacked tables, each with as many whole groups of columns as fit the width of the terminal.

use std::ops::Range;

use comfy_table::{Attribute, Cell, CellAlignment, TableComponent, presets};

use crate::error::ReportError;
use crate::export::Exporter;
use crate::table::{Emphasis, HEADER_WIDTH, Table, TableCell, wrap};
use crate::text::one_line;

/// Text for a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Width of the terminal in characters.
    pub width: usize,
    /// Whether it supports bold and underlined text.
    pub styled: bool,
}

impl Exporter for Terminal {
    fn extension(&self) -> &'static str {
        "txt"
    }

    fn export(&self, table: &Table) -> Result<String, ReportError> {
        let mut lines = wrap(&one_line(&table.caption), self.width);
        let widest = |block| render(table, block, false).iter().map(|line| line.chars().count()).max();
        for block in table.blocks(|block| widest(block).is_none_or(|width| width <= self.width)) {
            lines.push(format!("\n{}", one_line(&table.block_title(block.clone()))));
            lines.extend(render(table, block, self.styled));
        }
        lines.push(String::new());
        for note in &table.notes {
            lines.extend(wrap(&one_line(note), self.width));
        }
        Ok(lines.join("\n") + "\n")
    }
}

fn render(table: &Table, block: Range<usize>, styled: bool) -> Vec<String> {
    let mut grid = comfy_table::Table::new();
    grid.load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .remove_style(TableComponent::HorizontalLines)
        .remove_style(TableComponent::MiddleIntersections);
    if styled {
        grid.enforce_styling()
    } else {
        grid.force_no_tty()
    };
    let headers = table.columns[block.clone()]
        .iter()
        .map(|column| right(wrap(&one_line(&column.header), HEADER_WIDTH).join("\n")));
    grid.set_header(std::iter::once(Cell::new(one_line(&table.corner))).chain(headers));
    for row in &table.rows {
        let cells = row.cells[block.clone()].iter().map(cell);
        grid.add_row(std::iter::once(Cell::new(one_line(&row.label))).chain(cells));
    }
    grid.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn cell(cell: &TableCell) -> Cell {
    let shown = right(one_line(&cell.text));
    match cell.emphasis {
        Emphasis::None => shown,
        Emphasis::Best => shown.add_attribute(Attribute::Bold),
        Emphasis::Second => shown.add_attribute(Attribute::Underlined),
    }
}

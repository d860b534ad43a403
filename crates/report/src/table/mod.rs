//! A table independent of its output format: caption, grouped columns, cells, notes.
//!
//! A [`crate::comparison`] is laid out into it once; every exporter shows the same text.

mod aggregates;
mod caption;
pub(crate) mod comparison;
mod differences;
mod notes;
mod overview;
mod parts;
pub mod published;
pub mod recipes;

use std::ops::Range;

use crate::comparison::Comparison;
use crate::error::ReportError;

pub use overview::over_backbones;

/// Maximum width in characters of a header line where columns are narrow.
pub const HEADER_WIDTH: usize = 10;

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// One word suitable for a file name.
    pub name: String,
    /// Caption, in one or two sentences.
    pub caption: String,
    /// Header of the column of row names.
    pub corner: String,
    /// Columns; those of one group are adjacent.
    pub columns: Vec<Column>,
    /// Rows, each with a cell for every column.
    pub rows: Vec<TableRow>,
    /// Notes below the table.
    pub notes: Vec<String>,
}

/// A column's group and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Group; its columns stay together where a table is split.
    pub group: String,
    /// Header.
    pub header: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// Its name.
    pub label: String,
    /// One cell for each column.
    pub cells: Vec<TableCell>,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub struct TableCell {
    /// Its text.
    pub text: String,
    /// Its rank within the column.
    pub emphasis: Emphasis,
    /// The number by which rows are sorted; `None` for text.
    pub value: Option<f64>,
}

/// Emphasis of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emphasis {
    /// No emphasis.
    None,
    /// The best of its column: bold.
    Best,
    /// The second best: underlined.
    Second,
}

impl Comparison {
    /// Every table of the comparison: the methods, their differences, their aggregates, SAN with part of what it learned
    /// and, where they are comparable, published rows and the differences from them.
    ///
    /// # Errors
    /// As [`published::table`]; when a log next to a record is malformed.
    pub fn tables(&self) -> Result<Vec<Table>, ReportError> {
        let mut tables = vec![self.table()];
        tables.extend(self.differences_table());
        tables.extend(self.aggregates_table());
        tables.extend(self.parts_table()?);
        tables.extend(published::table(self)?);
        tables.extend(published::differences(self)?);
        Ok(tables)
    }
}

impl From<String> for TableCell {
    fn from(text: String) -> Self {
        Self { text, emphasis: Emphasis::None, value: None }
    }
}

impl Table {
    /// The table with only some columns, named by group or header; all where none is named.
    ///
    /// # Errors
    /// When a name is neither, with the names of the groups.
    pub fn with_columns(mut self, names: &[String]) -> Result<Self, ReportError> {
        let is_named = |column: &Column, name: &str| {
            column.group.eq_ignore_ascii_case(name) || column.header.eq_ignore_ascii_case(name)
        };
        if let Some(name) =
            names.iter().find(|name| !self.columns.iter().any(|column| is_named(column, name)))
        {
            let mut groups: Vec<&str> = self.columns.iter().map(|column| column.group.as_str()).collect();
            groups.dedup();
            return Err(ReportError::Column { name: name.clone(), found: groups.join(", ") });
        }
        if names.is_empty() {
            return Ok(self);
        }
        let keep: Vec<bool> =
            self.columns.iter().map(|column| names.iter().any(|name| is_named(column, name))).collect();
        let mut kept = keep.iter();
        self.columns.retain(|_| kept.next() == Some(&true));
        for row in &mut self.rows {
            let mut kept = keep.iter();
            row.cells.retain(|_| kept.next() == Some(&true));
        }
        Ok(self)
    }

    /// Splits the columns into blocks of whole groups, as many as `fits` allows next to each other; a group that does not fit
    /// by itself is split. Each block is shown with the column of row names.
    pub fn blocks(&self, fits: impl Fn(Range<usize>) -> bool) -> Vec<Range<usize>> {
        let mut blocks: Vec<Range<usize>> = Vec::new();
        for group in self.groups() {
            match blocks.last_mut() {
                Some(block) if fits(block.start..group.end) => block.end = group.end,
                _ => blocks.extend(cut(group, &fits)),
            }
        }
        blocks
    }

    /// Names of the groups in a block, joined.
    pub fn block_title(&self, block: Range<usize>) -> String {
        let mut names: Vec<&str> = self.columns[block].iter().map(|column| column.group.as_str()).collect();
        names.dedup();
        names.join(", ")
    }

    fn groups(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        self.columns
            .chunk_by(|a, b| a.group == b.group)
            .map(|group| {
                let range = start..start + group.len();
                start = range.end;
                range
            })
            .collect()
    }
}

/// Splits a range into pieces that fit; a single column is never split.
fn cut(range: Range<usize>, fits: &impl Fn(Range<usize>) -> bool) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = range.start;
    for end in range.start + 1..=range.end {
        if end - start > 1 && !fits(start..end) {
            pieces.push(start..end - 1);
            start = end - 1;
        }
    }
    pieces.push(start..range.end);
    pieces
}

/// Breaks a text into lines of at most `width` characters where possible: after a space, a slash or an underscore.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in text.split_inclusive([' ', '/', '_']) {
        let length = |line: &str| line.trim_end().chars().count();
        match lines.last_mut() {
            Some(line) if line.is_empty() || length(&format!("{line}{piece}")) <= width => {
                line.push_str(piece)
            }
            _ => lines.push(piece.into()),
        }
    }
    lines.into_iter().map(|line| line.trim_end().into()).collect()
}

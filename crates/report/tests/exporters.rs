//! Snapshots of each format, and that output never exceeds the width of the terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{METHODS, record, records, stored};
use report::Table;
use report::comparison::comparisons;
use report::export::{Csv, Exporter, Latex, Markdown, Terminal};

fn table() -> Table {
    comparisons(records(), None).unwrap()[0].table()
}

/// As wide as VTAB: 19 sets in three groups.
fn wide_table() -> Table {
    let names: Vec<String> = (0..19).map(|set| format!("mini/smallnorb_elevation_{set}")).collect();
    let group =
        |set: usize| ["natural", "specialized", "structured"][usize::from(set > 6) + usize::from(set > 10)];
    let sets: Vec<(&str, &str)> =
        names.iter().enumerate().map(|(set, name)| (name.as_str(), group(set))).collect();
    let cells = METHODS.iter().flat_map(|method| (0..19).map(move |set| (*method, set)));
    let records = cells.map(|(method, set)| stored(record(method, set, &sets, 0, Some(50.0)))).collect();
    comparisons(records, None).unwrap()[0].table()
}

#[test]
fn markdown() {
    insta::assert_snapshot!(Markdown.export(&table()).unwrap());
}

#[test]
fn latex() {
    insta::assert_snapshot!(Latex.export(&table()).unwrap());
}

#[test]
fn csv() {
    insta::assert_snapshot!(Csv.export(&table()).unwrap());
}

#[test]
fn terminal_that_is_wide_enough() {
    insta::assert_snapshot!(Terminal { width: 200, styled: false }.export(&table()).unwrap());
}

#[test]
fn terminal_that_is_narrow() {
    insta::assert_snapshot!(Terminal { width: 80, styled: false }.export(&table()).unwrap());
}

#[test]
fn terminal_marks_the_best_bold_and_the_second_underlined() {
    let text = Terminal { width: 200, styled: true }.export(&table()).unwrap();
    let line = text.lines().find(|line| line.contains("LoRA (r 4) ") && line.contains("72.0")).unwrap();
    assert!(line.contains("\u{1b}[4m") && line.contains("\u{1b}[1m"), "{line:?}");
}

#[test]
fn output_never_exceeds_the_terminal_and_no_column_is_lost() {
    let table = wide_table();
    for width in [60, 80, 100, 120, 180, 400] {
        let text = Terminal { width, styled: false }.export(&table).unwrap();
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= width, "{longest} characters in a terminal of {width}");
        let blocks = text.lines().filter(|line| line.trim_start().starts_with("method")).count();
        let cells = text.lines().filter(|line| line.contains("LoRA (r 4)  ")).count();
        assert_eq!(blocks, cells);
        assert_eq!(text.matches("elevation_").count(), 19);
    }
}

#[test]
fn a_suite_of_one_group_has_one_average_and_a_suite_of_one_data_set_has_none() {
    let headers = |sets: &[(&str, &str)]| -> Vec<String> {
        let cells = METHODS.iter().flat_map(|method| (0..sets.len()).map(move |set| (*method, set)));
        let records = cells.map(|(method, set)| stored(record(method, set, sets, 0, Some(50.0)))).collect();
        let table = comparisons(records, None).unwrap()[0].table();
        assert!(table.rows.iter().all(|row| row.cells.len() == table.columns.len()));
        table.columns.into_iter().map(|column| column.header).collect()
    };
    let fgvc = headers(&[("mini/cub", "fine_grained"), ("mini/cars", "fine_grained")]);
    assert_eq!(fgvc[..4], ["mini/cub", "mini/cars", "mean of 2 sets", "95 % interval (sets)"]);
    let gic = headers(&[("mini/cifar100", "general")]);
    for (headers, means) in [(&fgvc, 1), (&gic, 0)] {
        assert_eq!(headers.iter().filter(|header| header.contains("mean of")).count(), means, "{headers:?}");
        assert_eq!(headers.iter().filter(|header| header.contains("interval")).count(), means, "{headers:?}");
    }
}

#[test]
fn latex_escapes_its_special_characters() {
    let mut table = table();
    table.rows[0].label = r"a_b & 50% #1 {x} $y$ ~^\".into();
    let text = Latex.export(&table).unwrap();
    let escaped = r"a\_b \& 50\% \#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}\textbackslash{}";
    assert!(text.contains(escaped));
}

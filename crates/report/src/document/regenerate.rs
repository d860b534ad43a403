//! Every table and figure that the records allow: one self-contained HTML page, and one LaTeX document with booktabs
//! tables and PGF figures that pdflatex compiles.

use std::path::{Path, PathBuf};

use crate::comparison::Comparison;
use crate::document::chapter::Chapter;
use crate::document::page::collection;
use crate::error::ReportError;
use crate::export::body;
use crate::figure::pgf;
use crate::files::write_atomically;
use crate::text::latex;

/// Title of both documents.
const TITLE: &str = "SAN and other fine-tuning methods: all results";

/// Something that has no records yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// For example `FGVC, profile paper`.
    pub what: String,
    /// The command that makes it.
    pub command: String,
}

/// Writes `index.html`, `main.tex` and, for each figure, `figures/<name>.pgf` into `folder` (created if needed), and
/// returns their paths. In each chapter the captions name protocol, seeds and commit.
///
/// # Errors
/// When a comparison cannot be laid out or drawn, or the folder cannot be written.
pub fn write_collection(
    comparisons: &[Comparison],
    missing: &[Missing],
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let chapters = comparisons
        .iter()
        .map(|comparison| Chapter::of(comparison, comparison.tables()?))
        .collect::<Result<Vec<_>, _>>()?;
    let mut written = Vec::new();
    let mut write = |name: &str, text: &str| {
        let path = folder.join(name);
        write_atomically(&path, |scratch| std::fs::write(scratch, text))?;
        written.push(path);
        Ok::<(), ReportError>(())
    };
    write("index.html", &collection(TITLE, &chapters, missing))?;
    let mut text = preamble();
    text += &missing_section(missing);
    for chapter in &chapters {
        text += &format!("\\section{{{}}}\n", latex(&chapter.title));
        for table in &chapter.tables {
            text += &format!("\\subsection*{{{}}}\n", latex(&table.caption));
            // Separate paragraphs, between which the page may break.
            text += &body(table).join("\n\\par\\medskip\n");
            text += "\n\\par\n";
        }
        for (index, figure) in chapter.figures.iter().enumerate() {
            let name = format!("figures/{}-{index}.pgf", chapter.name);
            write(&name, &figure.pgf)?;
            text += &format!(
                "\\begin{{figure}}[htbp]\\centering\\input{{{name}}}\\caption{{{}}}\\end{{figure}}\n",
                latex(&figure.title)
            );
        }
        text += "\\clearpage\n";
    }
    write("main.tex", &(text + "\\end{document}\n"))?;
    Ok(written)
}

fn preamble() -> String {
    format!(
        "% pdflatex main.tex\n\\documentclass[a4paper,10pt]{{article}}\n\\usepackage[T1]{{fontenc}}\n\
         \\usepackage[utf8]{{inputenc}}\n\\usepackage[margin=2cm]{{geometry}}\n\\usepackage{{booktabs,pgf,xcolor}}\n\
         \\setlength{{\\parindent}}{{0pt}}\n\\raggedbottom\\sloppy\n{}\\title{{{TITLE}}}\n\\date{{}}\n\
         \\begin{{document}}\n\\maketitle\n\\tableofcontents\n\\clearpage\n",
        pgf::PREAMBLE
    )
}

fn missing_section(missing: &[Missing]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let items: String = missing
        .iter()
        .map(|Missing { what, command }| format!("\\item {}: \\texttt{{{}}}\n", latex(what), latex(command)))
        .collect();
    format!("\\section*{{What is missing}}\n\\begin{{itemize}}\n{items}\\end{{itemize}}\n\\clearpage\n")
}

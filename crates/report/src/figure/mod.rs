//! Figures, each as SVG and PNG by the same drawing code.
//!
//! Each submodule is one figure on a `canvas`, in the one style of `plot` and `palette`; `gamma` reads what the heat
//! map and the histograms show, `cost_axes` are the axes of `scatter`. [`draw_figures`] makes every figure for which the records and the files next to them
//! have the data.

mod bars;
mod canvas;
mod cost_axes;
mod curves;
mod gamma;
mod heat_map;
mod histogram;
mod labels;
mod palette;
pub(crate) mod pgf;
mod plot;
mod profile;
mod ranks;
mod scatter;
mod spectrum;
mod surface;
mod wiring;

use std::path::{Path, PathBuf};

use crate::comparison::{Comparison, STUDIED};
use crate::error::ReportError;
use crate::load::Stored;
use crate::load::logs::json_lines;
use crate::load::weight_shift::WeightShift;
use crate::record::{ADAPTER_FILE, EPOCHS_FILE, State};
use bars::Bars;
use canvas::Figure;
use curves::Curves;
use heat_map::HeatMap;
use histogram::Histograms;
use profile::Profiles;
use ranks::RankDiagram;
use scatter::{CostAxis, Scatter};
use spectrum::{EffectiveRanks, Shifts, Spectra};
use surface::Surfaces;
use wiring::WiringFigure;

pub use wiring::WiredSite;

/// Draws the figures of a comparison into `folder` (created if needed), as `<name>-<kind>.svg` and `.png`, each where
/// there are data for it. Of the comparison: `accuracy`, `accuracy-memory`, `accuracy-time` and
/// `accuracy-forgetting`, `groups`, `ranks`,
/// `profiles`.
/// Of the first finished SAN run in the table's order that has the file: `gamma` and `gamma-histogram` (adapter),
/// `curves` (epochs). Of the first data set and seed with weight shifts: `singular-values`, `effective-rank`,
/// `surface`. Returns the paths.
///
/// # Errors
/// When a file next to a record is malformed or the folder cannot be written.
pub fn draw_figures(comparison: &Comparison, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut files = Files { stem: folder.join(comparison.name()), written: Vec::new() };
    draw_all(comparison, &mut files)?;
    Ok(files.written)
}

/// Draws which scaling vector reaches which projection, as `<stem>.svg` and `<stem>.png`.
///
/// # Errors
/// When the figures cannot be written.
pub fn draw_wiring(title: &str, sites: &[WiredSite], stem: &Path) -> Result<Vec<PathBuf>, ReportError> {
    canvas::draw(&WiringFigure::of(title, sites), stem)
}

/// A figure within a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InlineFigure {
    /// What it shows, in a sentence.
    pub(crate) title: String,
    /// The element `svg`.
    pub(crate) svg: String,
    /// The environment `pgfpicture`.
    pub(crate) pgf: String,
}

/// Width of a figure in print, in big points: the text of an A4 page with margins of 2 cm.
const PRINT_WIDTH: f64 = 480.0;

/// The figures of a comparison as text, in the order of [`draw_figures`].
pub(crate) fn inline_figures(comparison: &Comparison) -> Result<Vec<InlineFigure>, ReportError> {
    let mut inline = Inline(Vec::new());
    draw_all(comparison, &mut inline)?;
    Ok(inline.0)
}

/// The destination of drawings.
trait Sink {
    fn put(&mut self, kind: &str, figure: &impl Figure) -> Result<(), ReportError>;
}

struct Files {
    stem: PathBuf,
    written: Vec<PathBuf>,
}

impl Sink for Files {
    fn put(&mut self, kind: &str, figure: &impl Figure) -> Result<(), ReportError> {
        let mut stem = self.stem.as_os_str().to_owned();
        stem.push(format!("-{kind}"));
        self.written.extend(canvas::draw(figure, Path::new(&stem))?);
        Ok(())
    }
}

struct Inline(Vec<InlineFigure>);

impl Sink for Inline {
    fn put(&mut self, kind: &str, figure: &impl Figure) -> Result<(), ReportError> {
        let fault = |error: std::io::Error| ReportError::Format {
            what: format!("figure {kind}"),
            reason: error.to_string(),
        };
        let svg = canvas::svg(figure).map_err(fault)?;
        let pgf = canvas::pgf(figure, PRINT_WIDTH).map_err(fault)?;
        self.0.push(InlineFigure { title: figure.title(), svg, pgf });
        Ok(())
    }
}

fn draw_all(comparison: &Comparison, sink: &mut impl Sink) -> Result<(), ReportError> {
    let costs: [(&str, CostAxis); 4] = [
        ("accuracy", CostAxis::Parameters),
        ("accuracy-memory", CostAxis::Memory),
        ("accuracy-time", CostAxis::Time),
        ("accuracy-forgetting", CostAxis::Forgetting),
    ];
    for (kind, cost) in costs {
        let scatter = Scatter::of(comparison, cost);
        if scatter.is_worth_drawing() || kind == "accuracy" {
            sink.put(kind, &scatter)?;
        }
    }
    sink.put("groups", &Bars::of(comparison))?;
    if let Some(diagram) =
        comparison.ranking.as_ref().and_then(|ranking| RankDiagram::of(comparison, ranking))
    {
        sink.put("ranks", &diagram)?;
    }
    if let Some(profiles) = Profiles::of(comparison) {
        sink.put("profiles", &profiles)?;
    }
    draw_studied(comparison, sink)?;
    draw_shifts(comparison, sink)
}

/// Figures of a single run of the method under study.
fn draw_studied(comparison: &Comparison, sink: &mut impl Sink) -> Result<(), ReportError> {
    let with = |file: &'static str| {
        let runs = comparison.records().iter().filter(|stored| is_studied(stored));
        runs.filter(move |stored| stored.path.with_file_name(file).exists())
    };
    if let Some(stored) = with(ADAPTER_FILE).next() {
        let gammas = gamma::read(stored)?;
        let histograms = Histograms::of(stored, &gammas);
        sink.put("gamma", &HeatMap::of(stored, gammas))?;
        sink.put("gamma-histogram", &histograms)?;
    }
    // Of the runs with the most curves, the first: a protocol may evaluate the parts of one run only.
    let mut richest: Option<Curves> = None;
    for stored in with(EPOCHS_FILE) {
        let curves = Curves::of(stored, &json_lines(&stored.path.with_file_name(EPOCHS_FILE))?);
        if richest.as_ref().is_none_or(|richest| curves.count() > richest.count()) {
            richest = Some(curves);
        }
    }
    match richest {
        Some(curves) if curves.count() > 0 => sink.put("curves", &curves),
        _ => Ok(()),
    }
}

/// Figures of the weights: the methods on the first data set and seed with a stored weight shift.
fn draw_shifts(comparison: &Comparison, sink: &mut impl Sink) -> Result<(), ReportError> {
    let mut runs = Vec::new();
    for stored in comparison.records() {
        let Stored { path, record, .. } = stored;
        let is_same_place = runs.first().is_none_or(|(first, _): &(&Stored, _)| {
            first.record.dataset.name == record.dataset.name && first.record.seed == record.seed
        });
        if is_same_place && let Some(shift) = WeightShift::read(path.parent().unwrap_or(path))? {
            runs.push((stored, shift));
        }
    }
    let studied = runs.iter().find(|(stored, _)| stored.record.method.name == STUDIED).or(runs.first());
    let layer = studied.and_then(|(stored, shift)| {
        shift.layers.iter().find_map(|layer| Some((*stored, &layer.name, layer.crop.as_ref()?)))
    });
    if let Some((stored, name, crop)) = layer {
        sink.put("surface", &Surfaces::of(stored, name, crop))?;
    }
    if let Some(shifts) = Shifts::of(runs) {
        sink.put("singular-values", &Spectra(&shifts))?;
        sink.put("effective-rank", &EffectiveRanks(&shifts))?;
    }
    Ok(())
}

fn is_studied(stored: &Stored) -> bool {
    stored.record.method.name == STUDIED && stored.record.state == State::Finished
}

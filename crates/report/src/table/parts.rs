//! SAN evaluated with part of what it learned: both mechanisms, only the scales after projections (nt), only the
//! propagated ones (sp), and neither (the head alone).

use crate::comparison::{Comparison, STUDIED};
use crate::error::ReportError;
use crate::load::logs::{Epoch, json_lines};
use crate::record::{EPOCHS_FILE, State};
use crate::table::differences::number;
use crate::table::{Column, Table, TableRow};

impl Comparison {
    /// One row for each finished run of SAN whose parts were evaluated, after its last epoch; `None` if there is none.
    ///
    /// # Errors
    /// When a log next to a record is malformed.
    pub(super) fn parts_table(&self) -> Result<Option<Table>, ReportError> {
        let mut rows = Vec::new();
        for stored in self.records() {
            let record = &stored.record;
            let path = stored.path.with_file_name(EPOCHS_FILE);
            if record.method.name != STUDIED || record.state != State::Finished || !path.exists() {
                continue;
            }
            let epochs: Vec<Epoch> = json_lines(&path)?;
            let Some((both, parts)) =
                epochs.last().and_then(|epoch| epoch.test_accuracy.zip(epoch.part_accuracies))
            else {
                continue;
            };
            let values = [both, parts.nt, parts.sp, parts.head].map(|share| 100.0 * share);
            rows.push(TableRow {
                label: format!("{}, {}, seed {}", record.method.label, record.dataset.name, record.seed),
                cells: values.into_iter().map(|value| number(format!("{value:.1}"), value)).collect(),
            });
        }
        let columns = ["both", "nt only", "sp only", "head only"];
        Ok((!rows.is_empty()).then(|| Table {
            name: format!("{}-parts", self.name()),
            caption: format!("{}: SAN with part of what it learned, accuracy in %.", self.title()),
            corner: "run".into(),
            columns: columns
                .map(|header| Column { group: "accuracy".into(), header: header.into() })
                .into(),
            rows,
            notes: vec![
                "One trained model, evaluated with part of its scaling vectors; it was trained with both. nt: scales \
                 after projections, sp: the same scales propagated into the next weights."
                    .into(),
            ],
        }))
    }
}

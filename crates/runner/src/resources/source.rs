//! Where the data of an experiment come from.

use data_loaders::SplitCounts;
use data_loaders::text::TextSource;
use data_loaders::vl::QuestionSource;
use serde::{Deserialize, Serialize};

/// Where data come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DataSource {
    /// Made by this program: the tasks `mini/<set>`.
    Drawn(SplitCounts),
    /// Files in this folder under `SAN_DATA`.
    Files(String),
    /// Rows in this folder under `SAN_DATA`.
    Rows {
        /// The folder.
        folder: String,
        /// The training file, and which of its rows are chosen by.
        source: TextSource,
    },
    /// Questions about images in this folder under `SAN_DATA`.
    Questions {
        /// The folder.
        folder: String,
        /// Which of them.
        source: QuestionSource,
    },
}

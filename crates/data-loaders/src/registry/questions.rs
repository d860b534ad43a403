//! Question and answer formats: which files questions are read from, and how they are answered.

use serde::{Deserialize, Serialize};

/// The answer format of a dataset's questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// `true|false` (BoolQ).
    TrueFalse,
    /// `solution[12]` (PIQA).
    Solution,
    /// `answer[1-5]` (SIQA, both ARC, OpenBookQA).
    Answer,
    /// `ending[1-4]` (HellaSwag).
    Ending,
    /// `option[12]` (WinoGrande).
    Option,
}

/// One of the seven datasets that LLaVA-1.5 is evaluated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Benchmark {
    /// VQAv2, test-dev (server) or val (local).
    Vqav2,
    /// GQA, testdev_balanced.
    Gqa,
    /// VizWiz, test (server) or val (local).
    Vizwiz,
    /// ScienceQA, test questions with an image.
    ScienceqaImg,
    /// TextVQA, val, with OCR tokens.
    Textvqa,
    /// POPE, three parts.
    Pope,
    /// MMBench, dev.
    Mmbench,
}

/// One of three small question datasets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmallSet {
    /// easy-VQA: shape, colour and presence questions.
    EasyVqa,
    /// POPE's questions about COCO photographs; the training questions include counts.
    #[serde(rename = "pope_coco128")]
    PopeCoco128,
    /// NLVR: true or false statements.
    Nlvr,
}

//! The forms that questions and answers have: whose files they are read from, and in which words they are answered.

use serde::{Deserialize, Serialize};

/// The words by which the questions of a set are answered.
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

/// One of the seven sets that LLaVA-1.5 is evaluated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Benchmark {
    /// VQAv2, test-dev (server) or val (local).
    Vqav2,
    /// GQA, testdev_balanced.
    Gqa,
    /// VizWiz, test (server) or val (local).
    Vizwiz,
    /// ScienceQA, the test questions that have an image.
    ScienceqaImg,
    /// TextVQA, val, with OCR tokens.
    Textvqa,
    /// POPE, three parts.
    Pope,
    /// MMBench, dev.
    Mmbench,
}

/// One of three small sets of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmallSet {
    /// easy-VQA: which shape, which colour, is it there.
    EasyVqa,
    /// POPE's questions about COCO photographs, with numbers of things in training.
    #[serde(rename = "pope_coco128")]
    PopeCoco128,
    /// NLVR: is a statement true.
    Nlvr,
}

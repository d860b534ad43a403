//! How a dataset is split: the parts in its files, and the splits named by protocols.

use serde::{Deserialize, Serialize};

/// A split of a dataset, as named by protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training while tuning (train800).
    Train,
    /// Hyper-parameter selection (val200).
    Val,
    /// `Train` followed by `Val`, for the final training.
    TrainVal,
    /// Evaluated once, at the end.
    Test,
}

impl Split {
    /// The name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::TrainVal => "train+val",
            Self::Test => "test",
        }
    }
}

/// Numbers of images in the three parts of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitCounts {
    /// Training images while tuning.
    pub train: usize,
    /// Validation images.
    pub val: usize,
    /// Test images.
    pub test: usize,
}

/// A part of a dataset; parts are disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Training.
    Train,
    /// Validation.
    Val,
    /// Test.
    Test,
}

impl Part {
    /// All, in order.
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];
}

/// The samples of a dataset by split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Splits<T> {
    train_and_val: Vec<T>,
    train: usize,
    test: Vec<T>,
}

impl<T> Splits<T> {
    /// From the three parts.
    pub(crate) fn new([mut train, val, test]: [Vec<T>; 3]) -> Self {
        let count = train.len();
        train.extend(val);
        Self { train_and_val: train, train: count, test }
    }

    /// The samples of a split.
    pub(crate) fn of(&self, split: Split) -> &[T] {
        match split {
            Split::Train => &self.train_and_val[..self.train],
            Split::Val => &self.train_and_val[self.train..],
            Split::TrainVal => &self.train_and_val,
            Split::Test => &self.test,
        }
    }

    /// Numbers of samples in the three parts.
    pub(crate) fn counts(&self) -> SplitCounts {
        let count = |split| self.of(split).len();
        SplitCounts { train: count(Split::Train), val: count(Split::Val), test: count(Split::Test) }
    }

    /// Number of samples in a part.
    pub(crate) fn part_len(&self, part: Part) -> usize {
        match part {
            Part::Train => self.train,
            Part::Val => self.train_and_val.len() - self.train,
            Part::Test => self.test.len(),
        }
    }

    /// The part that contains sample `index` of a split, and its index there; `None` if out of range.
    pub(crate) fn locate(&self, split: Split, index: usize) -> Option<(Part, usize)> {
        if index >= self.of(split).len() {
            return None;
        }
        Some(match split {
            Split::Train => (Part::Train, index),
            Split::Val => (Part::Val, index),
            Split::TrainVal if index < self.train => (Part::Train, index),
            Split::TrainVal => (Part::Val, index - self.train),
            Split::Test => (Part::Test, index),
        })
    }
}

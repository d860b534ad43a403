//! How a set is divided: the parts that its files have, and the splits that protocols name.

use serde::{Deserialize, Serialize};

/// A part of a set, as protocols name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training while tuning (train800).
    Train,
    /// For choosing hyper-parameters (val200).
    Val,
    /// `Train` followed by `Val`, for the final training.
    TrainVal,
    /// Read once, at the end.
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

/// Numbers of images in the three parts of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitCounts {
    /// Images to train on while tuning.
    pub train: usize,
    /// Images to choose by.
    pub val: usize,
    /// Images to test on.
    pub test: usize,
}

/// A part of a set whose images no other part shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// To train on.
    Train,
    /// To choose by.
    Val,
    /// To test on.
    Test,
}

impl Part {
    /// All, in order.
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];
}

/// The samples of a set by split.
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

    /// The part that the sample at `index` of a split is in, and its place there; none beyond the split.
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

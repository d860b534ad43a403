//! What frozen models made of data, kept while other runs may need it.

use std::collections::HashMap;
use std::time::Duration;

use tch::Tensor;

/// Sets of features that are kept: train and test of a few sets.
const KEPT: usize = 8;

/// What a frozen model makes of one split.
#[derive(Debug)]
pub struct Features {
    /// `[samples, ...]`, on the device.
    pub tensor: Tensor,
    /// Time of the forward passes.
    pub computing: Duration,
    /// Time of reading the data.
    pub reading: Duration,
}

/// Features by what they are a function of.
#[derive(Debug, Default)]
pub struct FeatureCache {
    kept: HashMap<String, Features>,
    /// Keys, the oldest first.
    order: Vec<String>,
}

impl FeatureCache {
    /// Features that another run computed.
    pub fn get(&self, key: &str) -> Option<&Features> {
        self.kept.get(key)
    }

    /// Keeps features; the oldest make room.
    pub fn insert(&mut self, key: String, features: Features) {
        while self.order.len() >= KEPT {
            self.kept.remove(&self.order.remove(0));
        }
        self.order.push(key.clone());
        self.kept.insert(key, features);
    }
}

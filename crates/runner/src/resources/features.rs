//! Features that frozen models computed, cached while other runs may need them.

use std::collections::HashMap;
use std::time::Duration;

use tch::Tensor;

/// Number of feature tensors in the cache: train and test of a few sets.
const KEPT: usize = 8;

/// A frozen model's features of one split.
#[derive(Debug)]
pub struct Features {
    /// `[samples, ...]`, on the device.
    pub tensor: Tensor,
    /// Time of the forward passes.
    pub computing: Duration,
    /// Time spent reading the data.
    pub data_wait: Duration,
}

/// Features by a key of everything that they depend on.
#[derive(Debug, Default)]
pub struct FeatureCache {
    kept: HashMap<String, Features>,
    /// Keys, oldest first.
    order: Vec<String>,
}

impl FeatureCache {
    /// Features that another run computed.
    pub fn get(&self, key: &str) -> Option<&Features> {
        self.kept.get(key)
    }

    /// Caches features; the oldest are dropped to make room.
    pub fn insert(&mut self, key: String, features: Features) {
        while self.order.len() >= KEPT {
            self.kept.remove(&self.order.remove(0));
        }
        self.order.push(key.clone());
        self.kept.insert(key, features);
    }
}

//! Random numbers that depend only on a seed and a purpose.
//!
//! The state of libtorch's generators cannot be saved through `tch`. Here every use starts a fresh ChaCha
//! stream keyed by a seed and a purpose, so a resumed run, a run in a stack and a single run get the same
//! numbers, and there is no state to save.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A generator for `purpose` (a tensor's name, `epoch 3`, ...) under `seed`.
pub fn generator(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A random permutation of `0..count` for `purpose` under `seed`.
pub fn permutation(seed: u64, purpose: &str, count: usize) -> Vec<usize> {
    use rand::seq::SliceRandom;
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut generator(seed, purpose));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_depends_only_on_seed_and_purpose() {
        assert_eq!(permutation(1, "epoch 0", 50), permutation(1, "epoch 0", 50));
        assert_ne!(permutation(1, "epoch 0", 50), permutation(1, "epoch 1", 50));
        assert_ne!(permutation(1, "epoch 0", 50), permutation(2, "epoch 0", 50));
        let mut sorted = permutation(1, "epoch 0", 50);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..50));
    }
}

//! Random choices as a function of a purpose and numbers: each combination has its own ChaCha8 stream.
//!
//! No generator is shared, so any thread may make any choice in any order with the same result.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A random stream that belongs to one image (or one class).
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream for a purpose and numbers; streams that differ in any of these are independent.
    pub(crate) fn new(purpose: &str, numbers: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(purpose.as_bytes()).update(&[0]);
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// A seed for a hash-based noise field.
    pub(crate) fn seed(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in `low..high`, on a grid of 2^-24 of the span.
    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in `low..high`, on a grid of 2^-53 of the span.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, mean 0 and standard deviation 1 (Box and Muller 1958; only one of the pair is used).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.between(0.0, 1.0)).ln()).sqrt();
        radius * self.between(0.0, std::f64::consts::TAU).cos()
    }

    /// Beta distribution with both parameters equal to `alpha`, above 0.
    pub(crate) fn beta(&mut self, alpha: f64) -> f64 {
        let (one, other) = (self.gamma(alpha), self.gamma(alpha));
        // If both underflow, the distribution is nearly a fair coin.
        if one + other > 0.0 { one / (one + other) } else { self.below(2) as f64 }
    }

    /// Gamma distribution with a shape above 0 (Marsaglia and Tsang 2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.between(0.0, 1.0)).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        loop {
            let normal = self.normal();
            let v = (1.0 + normal / (9.0 * d).sqrt()).powi(3);
            let uniform = 1.0 - self.between(0.0, 1.0);
            if v > 0.0 && uniform.ln() < normal * normal / 2.0 + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Uniform in `0..count`; the bias of the multiplication is below count / 2^32.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u64::from(self.0.next_u32()) * count as u64) >> 32) as usize
    }

    /// True with the given probability.
    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.uniform(0.0, 1.0) < probability
    }

    /// One of the items, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// An angle in radians, uniform over the circle.
    pub(crate) fn angle(&mut self) -> f32 {
        self.uniform(0.0, std::f32::consts::TAU)
    }

    /// A permutation of `0..count` (Fisher-Yates).
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_always_gives_the_same_choices_and_another_place_others() {
        let draw = |purpose: &str, numbers: &[u64]| Stream::new(purpose, numbers).uniform(0.0, 1.0);
        assert_eq!(draw("a", &[1, 2]), draw("a", &[1, 2]));
        assert_ne!(draw("a", &[1, 2]), draw("a", &[2, 1]));
        assert_ne!(draw("a", &[1]), draw("b", &[1]));
    }

    #[test]
    fn a_permutation_holds_every_item_once() {
        let mut order = Stream::new("p", &[]).permutation(17);
        order.sort_unstable();
        assert_eq!(order, (0..17).collect::<Vec<_>>());
    }
}

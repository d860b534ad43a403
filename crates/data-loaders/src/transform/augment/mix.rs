//! Mixup and cutmix of a batch, timm's mode `batch`: the batch is mixed with its reverse, with the same parameters for
//! all images; and the resulting targets.

use crate::random::Stream;
use crate::transform::augment::Augmentation;

/// How a batch is mixed. Image `i` of `n` is mixed with image `n - 1 - i`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Not at all.
    None,
    /// A weighted mean; the value is the weight of the image itself.
    Mixup(f64),
    /// A rectangle pasted from the other image.
    Cutmix(Rectangle),
}

/// A rectangle of an image: columns `left..right`, rows `top..bottom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "described above")]
pub struct Rectangle {
    pub left: usize,
    pub right: usize,
    pub top: usize,
    pub bottom: usize,
}

impl Rectangle {
    /// The rectangle around a centre that leaves `share` of the image, unless it is clipped at a border.
    fn around((x, y): (usize, usize), share: f64, side: usize) -> Self {
        let half = (side as f64 * (1.0 - share).sqrt()) as usize / 2;
        let range = |centre: usize| (centre.saturating_sub(half), (centre + half).min(side));
        let ((left, right), (top, bottom)) = (range(x), range(y));
        Self { left, right, top, bottom }
    }

    fn area(&self) -> usize {
        (self.right - self.left) * (self.bottom - self.top)
    }
}

impl Mix {
    /// Samples how the batch of a step is mixed; images are `side` pixels wide.
    pub(crate) fn draw(augmentation: &Augmentation, side: usize, stream: &mut Stream) -> Self {
        let Augmentation { mixup, cutmix, mix_probability, cutmix_probability, .. } = *augmentation;
        if (mixup == 0.0 && cutmix == 0.0) || !stream.chance(mix_probability as f32) {
            return Self::None;
        }
        if mixup == 0.0 || (cutmix > 0.0 && stream.chance(cutmix_probability as f32)) {
            let share = stream.beta(cutmix);
            let centre = (stream.below(side), stream.below(side));
            Self::Cutmix(Rectangle::around(centre, share, side))
        } else {
            Self::Mixup(stream.beta(mixup))
        }
    }

    /// The share of an image that is its own.
    pub fn own_share(&self, side: usize) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Mixup(share) => *share,
            Self::Cutmix(rectangle) => 1.0 - rectangle.area() as f64 / (side * side) as f64,
        }
    }
}

/// Mixes the images of a batch, `[batch, 3, side, side]`.
pub fn mix_pixels(pixels: &mut [f32], side: usize, mix: &Mix) {
    let image = 3 * side * side;
    if image == 0 {
        return;
    }
    let count = pixels.len() / image;
    let (first, second) = pixels.split_at_mut(count / 2 * image);
    // In an odd-sized batch, the image in the middle is its own partner.
    let partners = second.chunks_exact_mut(image).rev();
    for (one, other) in first.chunks_exact_mut(image).zip(partners) {
        match mix {
            Mix::None => {}
            Mix::Mixup(share) => {
                let (own, rest) = (*share as f32, (1.0 - share) as f32);
                for (one, other) in one.iter_mut().zip(other) {
                    (*one, *other) = (*one * own + *other * rest, *other * own + *one * rest);
                }
            }
            Mix::Cutmix(Rectangle { left, right, top, bottom }) => {
                let rows = one.chunks_exact_mut(side).zip(other.chunks_exact_mut(side)).enumerate();
                for (_, (one, other)) in rows.filter(|(row, _)| (*top..*bottom).contains(&(row % side))) {
                    one[*left..*right].swap_with_slice(&mut other[*left..*right]);
                }
            }
        }
    }
}

/// The targets of a batch, `[batch, classes]`: `own_share` for an image's class, the rest for its partner's class, with
/// label smoothing `smoothing` over all classes. Labels are below `classes`.
pub fn soft_targets(labels: &[u32], classes: u32, own_share: f64, smoothing: f64) -> Vec<f32> {
    let classes = classes as usize;
    let off = smoothing / classes as f64;
    let on = 1.0 - smoothing + off;
    let target = |label: u32, class: usize| if label as usize == class { on as f32 } else { off as f32 };
    let (own, rest) = (own_share as f32, (1.0 - own_share) as f32);
    let pairs = labels.iter().zip(labels.iter().rev());
    pairs
        .flat_map(|(label, partner)| {
            (0..classes).map(move |class| target(*label, class) * own + target(*partner, class) * rest)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// timm's results (tools/augmentation_fixtures.py).
    #[derive(Deserialize)]
    struct Fixture {
        side: usize,
        classes: u32,
        smoothing: f64,
        labels: Vec<u32>,
        pixels: Vec<f32>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        mixup: Option<f64>,
        /// The sampled share and the centre.
        cutmix: Option<(f64, usize, usize)>,
        pixels: Vec<f32>,
        targets: Vec<f32>,
    }

    #[test]
    fn mixed_batches_equal_timm() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/augment/mixing.json");
        let fixture: Fixture = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let side = fixture.side;
        for case in &fixture.cases {
            let mix = match (case.mixup, case.cutmix) {
                (Some(share), _) => Mix::Mixup(share),
                (_, Some((share, x, y))) => Mix::Cutmix(Rectangle::around((x, y), share, side)),
                _ => Mix::None,
            };
            let mut pixels = fixture.pixels.clone();
            mix_pixels(&mut pixels, side, &mix);
            let targets =
                soft_targets(&fixture.labels, fixture.classes, mix.own_share(side), fixture.smoothing);
            for (ours, expected) in [(&pixels, &case.pixels), (&targets, &case.targets)] {
                assert_eq!(ours.len(), expected.len());
                let furthest = ours.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(furthest < 1e-6, "{mix:?}: {furthest}");
            }
        }
    }

    #[test]
    fn an_odd_batch_keeps_its_middle_image_and_targets_sum_to_one() {
        let mut pixels: Vec<f32> = (0..5 * 12).map(|value| value as f32).collect();
        mix_pixels(&mut pixels, 2, &Mix::Mixup(0.25));
        assert!(pixels[24..36].iter().zip(24..).all(|(value, place)| *value == place as f32));
        assert_eq!(pixels[0], 0.75 * 48.0);
        let targets = soft_targets(&[0, 1, 2, 1, 0], 3, 0.25, 0.1);
        assert!(targets.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6));
    }

    #[test]
    fn half_of_the_batches_use_cutmix_and_shares_follow_their_distribution() {
        let recipe = Augmentation::default();
        let samples: Vec<Mix> =
            (0..4000).map(|step| Mix::draw(&recipe, 32, &mut Stream::new("mix", &[step]))).collect();
        let cut = samples.iter().filter(|mix| matches!(mix, Mix::Cutmix(_))).count();
        assert!((1880..2120).contains(&cut), "{cut}");
        let shares: Vec<f64> = samples
            .iter()
            .filter_map(|mix| if let Mix::Mixup(share) = mix { Some(*share) } else { None })
            .collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64;
        // Of beta(a, a): 1/2 and 1 / (4 (2a + 1)).
        assert!((mean - 0.5).abs() < 0.02 && (variance - 1.0 / 10.4).abs() < 0.006, "{mean} {variance}");
        assert_eq!(
            Mix::draw(&Augmentation { mixup: 0.0, cutmix: 0.0, ..recipe }, 32, &mut Stream::new("mix", &[0])),
            Mix::None
        );
    }
}

//! Random crops of training images: timm's and torchvision's RandomResizedCrop.

use crate::random::Stream;

/// Number of attempts before falling back to the largest central crop.
const ATTEMPTS: usize = 10;

/// A crop in whole pixels, at least one pixel wide and high and within the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Samples a crop whose share of the image's area is in `scale` and whose ratio of width to height is in `ratio`.
pub(super) fn sample(
    (width, height): (u32, u32),
    scale: (f64, f64),
    ratio: (f64, f64),
    stream: &mut Stream,
) -> Part {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..ATTEMPTS {
        let target = area * stream.between(scale.0, scale.1);
        let ratio = stream.between(ratio.0.ln(), ratio.1.ln()).exp();
        let (wide, high) = (pixels((target * ratio).sqrt()), pixels((target / ratio).sqrt()));
        if wide <= width && high <= height {
            let start = |free: u32, stream: &mut Stream| stream.below(free as usize + 1) as u32;
            let top = start(height - high, stream);
            return Part { left: start(width - wide, stream), top, width: wide, height: high };
        }
    }
    let whole = f64::from(width) / f64::from(height);
    let (wide, high) = if whole < ratio.0 {
        (width, pixels(f64::from(width) / ratio.0).min(height))
    } else if whole > ratio.1 {
        (pixels(f64::from(height) * ratio.1).min(width), height)
    } else {
        (width, height)
    };
    Part { left: (width - wide) / 2, top: (height - high) / 2, width: wide, height: high }
}

/// A length in whole pixels; at least one, where timm would fail on a very small image.
fn pixels(length: f64) -> u32 {
    (length.round_ties_even() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_have_the_requested_areas_and_aspect_ratios() {
        let (scale, ratio) = ((0.08, 1.0), (3.0 / 4.0, 4.0 / 3.0));
        let mut areas = Vec::new();
        for index in 0..4000 {
            let part = sample((500, 400), scale, ratio, &mut Stream::new("crop", &[index]));
            assert!(part.left + part.width <= 500 && part.top + part.height <= 400);
            let shape = f64::from(part.width) / f64::from(part.height);
            assert!((0.73..=1.36).contains(&shape), "{part:?}");
            areas.push(f64::from(part.width * part.height) / 200_000.0);
        }
        assert!(areas.iter().all(|area| (0.078..=1.0).contains(area)));
        // The mean share over 200,000 crops by timm is 0.454: large crops that do not fit are resampled.
        let mean = areas.iter().sum::<f64>() / 4000.0;
        assert!((mean - 0.454).abs() < 0.015, "{mean}");
    }

    #[test]
    fn a_narrow_image_gives_its_largest_central_crop() {
        let stream = &mut Stream::new("crop", &[]);
        let part = sample((1000, 10), (0.9, 1.0), (0.75, 4.0 / 3.0), stream);
        assert_eq!(part, Part { left: 493, top: 0, width: 13, height: 10 });
        let part = sample((10, 1000), (0.9, 1.0), (0.75, 4.0 / 3.0), stream);
        assert_eq!(part, Part { left: 0, top: 493, width: 10, height: 13 });
        assert_eq!(
            sample((1, 1), (0.08, 1.0), (0.75, 1.3), stream),
            Part { left: 0, top: 0, width: 1, height: 1 }
        );
    }
}

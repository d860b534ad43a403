//! Random erasing, timm's mode `pixel`: a rectangle is filled with noise of mean 0 and standard deviation 1.

use crate::random::Stream;

/// Number of attempts before the image is left unchanged.
const ATTEMPTS: usize = 10;
/// Minimum and maximum share of the image's area that is erased.
const AREA: (f64, f64) = (0.02, 1.0 / 3.0);
/// Minimum ratio of height to width; the maximum is its reciprocal.
const MIN_RATIO: f64 = 0.3;

/// Erases a rectangle in normalised planes, `[3, side, side]`.
pub(super) fn erase(planes: &mut [f32], side: usize, stream: &mut Stream) {
    let area = (side * side) as f64;
    for _ in 0..ATTEMPTS {
        let target = area * stream.between(AREA.0, AREA.1);
        let ratio = stream.between(MIN_RATIO.ln(), -MIN_RATIO.ln()).exp();
        let height = (target * ratio).sqrt().round_ties_even() as usize;
        let width = (target / ratio).sqrt().round_ties_even() as usize;
        if width < side && height < side {
            let (top, left) = (stream.below(side - height + 1), stream.below(side - width + 1));
            for plane in planes.chunks_exact_mut(side * side) {
                for row in plane.chunks_exact_mut(side).skip(top).take(height) {
                    row[left..left + width].iter_mut().for_each(|value| *value = stream.normal() as f32);
                }
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rectangle_becomes_noise_in_all_channels() {
        const SIDE: usize = 40;
        let mut shares = Vec::new();
        for index in 0..500 {
            let mut planes = vec![100.0; 3 * SIDE * SIDE];
            erase(&mut planes, SIDE, &mut Stream::new("erase", &[index]));
            let erased: Vec<Vec<usize>> = planes
                .chunks(SIDE * SIDE)
                .map(|plane| (0..SIDE * SIDE).filter(|place| plane[*place] != 100.0).collect())
                .collect();
            assert!(erased[0] == erased[1] && erased[0] == erased[2]);
            let (rows, columns): (Vec<_>, Vec<_>) = erased[0].iter().map(|p| (p / SIDE, p % SIDE)).unzip();
            let extent = |places: &[usize]| places.iter().max().unwrap() - places.iter().min().unwrap() + 1;
            assert_eq!(extent(&rows) * extent(&columns), erased[0].len());
            shares.push(erased[0].len() as f64 / (SIDE * SIDE) as f64);
        }
        assert!(shares.iter().all(|share| (0.015..0.36).contains(share)));
        let mean = shares.iter().sum::<f64>() / 500.0;
        assert!((mean - 0.177).abs() < 0.02, "{mean}");
    }
}

//! Colours that are distinguishable with any type of colour vision.

use plotters::style::RGBColor;

/// Okabe and Ito's qualitative palette (2008), without black and yellow: black is used for text, and
/// yellow is hard to see on white.
const OKABE_ITO: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Grey of guide lines.
pub(super) const GUIDE: RGBColor = RGBColor(225, 225, 225);

/// Grey of secondary text and of the Pareto front.
pub(super) const SECONDARY: RGBColor = RGBColor(110, 110, 110);

/// Colour of the n-th method; colours repeat after six, where the labels distinguish the methods.
pub(super) fn qualitative(index: usize) -> RGBColor {
    OKABE_ITO[index % OKABE_ITO.len()]
}

/// Blue, white, red for -1, 0, 1: the ends and quarters of ColorBrewer's RdBu, linear between them.
pub(super) fn diverging(value: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 5] = [
        (5.0, 48.0, 97.0),
        (67.0, 147.0, 195.0),
        (247.0, 247.0, 247.0),
        (214.0, 96.0, 77.0),
        (103.0, 0.0, 31.0),
    ];
    let position = (value.clamp(-1.0, 1.0) + 1.0) * 2.0;
    let below = (position as usize).min(STOPS.len() - 2);
    let (from, to, share) = (STOPS[below], STOPS[below + 1], position - below as f64);
    let mix = |a: f64, b: f64| (a + (b - a) * share).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diverging_palette_is_near_white_in_its_middle_and_saturates_at_its_ends() {
        assert_eq!(diverging(0.0), RGBColor(247, 247, 247));
        assert_eq!(diverging(-7.0), RGBColor(5, 48, 97));
        assert_eq!(diverging(1.0), RGBColor(103, 0, 31));
    }
}

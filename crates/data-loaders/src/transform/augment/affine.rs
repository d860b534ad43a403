//! Affine transforms of an image, as in PIL's `transform`: bilinear or bicubic, not antialiased, in doubles, truncated
//! to integer levels.

use image::RgbImage;

use crate::transform::protocol::Filter;

/// Maps a pixel of the result to a point in the source: `x = a x' + b y' + c`, `y = d x' + e y' + f`.
pub(super) type Matrix = [f64; 6];

/// Counter-clockwise rotation by an angle in degrees, around the centre.
pub(super) fn rotation(degrees: f64, (width, height): (u32, u32)) -> Matrix {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    // PIL rounds to 15 decimal places, so that right angles are exact.
    let round = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let (cosine, sine) = (round(angle.cos()), round(angle.sin()));
    let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    let (minus_sine, back) = (round(-angle.sin()), (-x, -y));
    let c = cosine * back.0 + sine * back.1 + x;
    let f = minus_sine * back.0 + cosine * back.1 + y;
    [cosine, sine, c, minus_sine, cosine, f]
}

/// The transformed image; pixels from outside the source have the colour `fill`.
pub(super) fn transform(image: &RgbImage, matrix: &Matrix, filter: Filter, fill: [u8; 3]) -> RgbImage {
    let [a, b, c, d, e, f] = *matrix;
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        let place = (a * x + b * y + c, d * x + e * y + f);
        let inside = |place: f64, length: u32| (0.0..f64::from(length)).contains(&place);
        if !inside(place.0, image.width()) || !inside(place.1, image.height()) {
            return image::Rgb(fill);
        }
        let place = (place.0 - 0.5, place.1 - 0.5);
        image::Rgb(match filter {
            Filter::Bilinear => sample(image, place, 0, |[left, right], share| left + (right - left) * share),
            Filter::Bicubic => sample(image, place, 1, cubic),
        })
    })
}

/// The interpolated colour at a point: `TAPS` neighbours per row, `before` of them before the point, in as many rows.
fn sample<const TAPS: usize>(
    image: &RgbImage,
    (x, y): (f64, f64),
    before: i64,
    kernel: impl Fn([f64; TAPS], f64) -> f64,
) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (across, down) = (x - left, y - top);
    let clip = |place: i64, length: u32| place.clamp(0, i64::from(length) - 1) as u32;
    let columns: [u32; TAPS] =
        std::array::from_fn(|tap| clip(left as i64 - before + tap as i64, image.width()));
    let rows: [u32; TAPS] = std::array::from_fn(|tap| clip(top as i64 - before + tap as i64, image.height()));
    std::array::from_fn(|channel| {
        let row = |y: u32| kernel(columns.map(|x| f64::from(image.get_pixel(x, y).0[channel])), across);
        kernel(rows.map(row), down) as u8
    })
}

/// Keys' cubic with a = -1, as in PIL's `transform`; its `resize` uses -0.5.
fn cubic([v1, v2, v3, v4]: [f64; 4], share: f64) -> f64 {
    let linear = v3 - v1;
    let square = 2.0 * (v1 - v2) + v3 - v4;
    let cube = -v1 + v2 - v3 + v4;
    v2 + share * (linear + share * (square + share * cube))
}

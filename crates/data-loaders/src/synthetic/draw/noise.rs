//! Hash-based noise fields in the plane: value noise, its fractal sum, and cells. No state, no tables.

use glam::{IVec2, Vec2};

/// A uniform number in 0..1 for a lattice point.
fn hash(cell: IVec2, seed: u32) -> f32 {
    let mut bits = (cell.x as u32).wrapping_mul(0x9E37_79B1)
        ^ (cell.y as u32).wrapping_mul(0x85EB_CA77)
        ^ seed.wrapping_mul(0xC2B2_AE3D);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x2C1B_3C6D);
    bits = (bits ^ (bits >> 12)).wrapping_mul(0x297A_2D39);
    ((bits ^ (bits >> 15)) >> 8) as f32 / (1u32 << 24) as f32
}

/// Smooth noise in 0..1 with features of about one unit.
pub(crate) fn value_noise(point: Vec2, seed: u32) -> f32 {
    let floor = point.floor();
    let cell = floor.as_ivec2();
    let fraction = point - floor;
    let weight = fraction * fraction * (Vec2::splat(3.0) - 2.0 * fraction);
    let at = |dx, dy| hash(cell + IVec2::new(dx, dy), seed);
    let top = at(0, 0) + (at(1, 0) - at(0, 0)) * weight.x;
    let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * weight.x;
    top + (bottom - top) * weight.y
}

/// Three octaves of value noise, in 0..1.
pub(crate) fn fractal_noise(point: Vec2, seed: u32) -> f32 {
    (4.0 * value_noise(point, seed)
        + 2.0 * value_noise(point * 2.03, seed ^ 1)
        + value_noise(point * 4.11, seed ^ 2))
        / 7.0
}

/// The cell of a jittered grid (a Voronoi diagram) that holds a point.
pub(crate) struct Cell {
    /// Distance to the cell's own centre.
    pub(crate) distance: f32,
    /// How much farther away the next centre is: 0 on the border.
    pub(crate) margin: f32,
    /// A uniform number for the cell.
    pub(crate) value: f32,
}

/// The Voronoi cell around a point; `jitter` 0 gives a square grid, 1 the most irregular cells.
pub(crate) fn cell(point: Vec2, jitter: f32, seed: u32) -> Cell {
    let home = point.floor().as_ivec2();
    let (mut nearest, mut second, mut owner) = (f32::MAX, f32::MAX, home);
    for dy in -1..=1 {
        for dx in -1..=1 {
            let candidate = home + IVec2::new(dx, dy);
            let offset = Vec2::new(hash(candidate, seed), hash(candidate, !seed)) - 0.5;
            let distance = (candidate.as_vec2() + 0.5 + offset * jitter).distance(point);
            if distance < nearest {
                (second, nearest, owner) = (nearest, distance, candidate);
            } else if distance < second {
                second = distance;
            }
        }
    }
    Cell { distance: nearest, margin: second - nearest, value: hash(owner, seed ^ 0x5bd1_e995) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_stays_in_the_unit_interval_and_is_continuous() {
        let mut previous = fractal_noise(Vec2::new(-3.0, 0.7), 5);
        for step in 1..6000 {
            let value = fractal_noise(Vec2::new(-3.0 + step as f32 * 0.001, 0.7), 5);
            assert!((0.0..1.0).contains(&value) && (value - previous).abs() < 0.02);
            previous = value;
        }
    }

    #[test]
    fn without_jitter_cells_are_grid_squares() {
        let inside = cell(Vec2::new(0.5, 0.5), 0.0, 1);
        assert!(inside.distance < 1e-6 && (inside.margin - 1.0).abs() < 1e-6);
        assert!(cell(Vec2::new(0.999, 0.5), 0.0, 1).margin < 0.01);
    }
}

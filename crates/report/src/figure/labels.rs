//! Placing point labels so that none covers another, a point, or the frame.

/// A point, or a width and a height, in pixels.
pub(super) type Pixels = (i32, i32);

/// A rectangle in pixels: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
}

impl Area {
    /// Of a given size, around a centre.
    pub(super) fn around((x, y): Pixels, (width, height): Pixels) -> Self {
        Self { left: x - width / 2, top: y - height / 2, right: x + width / 2, bottom: y + height / 2 }
    }

    /// Around a line between two points, with a margin.
    pub(super) fn spanning(from: Pixels, to: Pixels, margin: i32) -> Self {
        Self {
            left: from.0.min(to.0) - margin,
            top: from.1.min(to.1) - margin,
            right: from.0.max(to.0) + margin,
            bottom: from.1.max(to.1) + margin,
        }
    }

    /// Its point nearest to a given point.
    pub(super) fn nearest(&self, (x, y): Pixels) -> Pixels {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn is_within(&self, other: &Self) -> bool {
        self.left >= other.left
            && self.right <= other.right
            && self.top >= other.top
            && self.bottom <= other.bottom
    }

    /// The middle.
    pub(super) fn centre(&self) -> Pixels {
        ((self.left + self.right) / 2, (self.top + self.bottom) / 2)
    }
}

/// The eight directions in order of preference, as steps in x and y.
const DIRECTIONS: [Pixels; 8] = [(1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1), (0, 1)];

/// Number of rings of positions around a point that are tried before the label is left on its point.
const RINGS: i32 = 8;

/// Pixels between a point and its label, and between the rings.
const GAP: i32 = 14;

/// A position for each label (its point and its size), clear of `obstacles` and of earlier labels and within `frame`;
/// on the point itself where no position is free.
pub(super) fn place(labels: &[(Pixels, Pixels)], obstacles: &[Area], frame: Area) -> Vec<Area> {
    let mut taken = obstacles.to_vec();
    labels
        .iter()
        .map(|&(point, size)| {
            let free =
                |area: &Area| area.is_within(&frame) && !taken.iter().any(|other| other.overlaps(area));
            let place = candidates(point, size).find(free).unwrap_or_else(|| Area::around(point, size));
            taken.push(place);
            place
        })
        .collect()
}

fn candidates((x, y): Pixels, (width, height): Pixels) -> impl Iterator<Item = Area> {
    (0..RINGS).flat_map(move |ring| {
        let reach = (width / 2 + GAP + ring * GAP, height / 2 + GAP + ring * GAP);
        DIRECTIONS.into_iter().map(move |(right, down)| {
            Area::around((x + right * reach.0, y + down * reach.1), (width, height))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_close_points_overlap_neither_each_other_nor_the_points() {
        let points = [(200, 200), (206, 203), (195, 210), (202, 190)];
        let obstacles: Vec<Area> = points.iter().map(|&point| Area::around(point, (20, 20))).collect();
        let labels: Vec<_> = points.iter().map(|&point| (point, (80, 24))).collect();
        let frame = Area { left: 0, top: 0, right: 400, bottom: 400 };
        let all = place(&labels, &obstacles, frame);
        assert!(all.iter().all(|label| label.is_within(&frame)));
        for (index, label) in all.iter().enumerate() {
            assert!(!all[index + 1..].iter().chain(&obstacles).any(|other| other.overlaps(label)));
        }
    }
}

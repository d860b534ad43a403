//! Solids and their intersection with rays: spheres, blocks and upright cylinders, z up.

use glam::{Vec2, Vec3};

/// Reflection properties of a surface.
#[derive(Clone, Copy)]
pub(crate) struct Material {
    /// Diffuse reflectance.
    pub(crate) colour: Vec3,
    /// Strength of the highlight: 0 is matt.
    pub(crate) gloss: f32,
    /// Side of the squares of a two-tone checkerboard, in scene units; 0 for none.
    pub(crate) check: f32,
}

impl Material {
    /// A matt surface of one colour.
    pub(crate) fn matt(colour: Vec3) -> Self {
        Self { colour, gloss: 0.0, check: 0.0 }
    }

    /// The reflectance at a point of the scene.
    pub(crate) fn colour_at(&self, point: Vec3) -> Vec3 {
        if self.check == 0.0 {
            return self.colour;
        }
        let square = ((point + 1e-3) / self.check).floor().element_sum();
        self.colour * if square.rem_euclid(2.0) < 1.0 { 1.0 } else { 0.6 }
    }
}

/// The shape of a solid around its centre.
#[derive(Clone, Copy)]
enum Form {
    Sphere { radius: f32 },
    Block { half: Vec3 },
    Cylinder { radius: f32, half_height: f32 },
}

/// A solid placed in the scene.
#[derive(Clone, Copy)]
pub(crate) struct Solid {
    form: Form,
    /// The centre, in scene units.
    pub(crate) centre: Vec3,
    /// Cosine and sine of the rotation about the vertical axis.
    heading: Vec2,
    /// Square of the radius of the bounding sphere.
    bound: f32,
    /// Its surface.
    pub(crate) material: Material,
}

/// Intersection of a ray with a surface.
pub(crate) struct Hit {
    /// Distance along the ray.
    pub(crate) distance: f32,
    /// Outward unit normal.
    pub(crate) normal: Vec3,
}

impl Solid {
    /// A sphere.
    pub(crate) fn sphere(centre: Vec3, radius: f32, material: Material) -> Self {
        Self { form: Form::Sphere { radius }, centre, heading: Vec2::X, bound: radius * radius, material }
    }

    /// A box with the given half sides.
    pub(crate) fn block(centre: Vec3, half: Vec3, material: Material) -> Self {
        Self { form: Form::Block { half }, centre, heading: Vec2::X, bound: half.length_squared(), material }
    }

    /// An upright cylinder.
    pub(crate) fn cylinder(centre: Vec3, radius: f32, half_height: f32, material: Material) -> Self {
        let bound = radius * radius + half_height * half_height;
        Self { form: Form::Cylinder { radius, half_height }, centre, heading: Vec2::X, bound, material }
    }

    /// The solid rotated about the vertical axis through the scene's origin.
    pub(crate) fn turned(mut self, angle: f32) -> Self {
        let turn = Vec2::from_angle(angle);
        self.centre = turn.rotate(self.centre.truncate()).extend(self.centre.z);
        self.heading = turn.rotate(self.heading);
        self
    }

    /// The solid translated.
    pub(crate) fn moved(mut self, by: Vec3) -> Self {
        self.centre += by;
        self
    }

    /// The first intersection with a ray of unit direction, farther away than `NEAR`.
    pub(crate) fn meet(&self, origin: Vec3, direction: Vec3) -> Option<Hit> {
        let from_centre = origin - self.centre;
        let along = -from_centre.dot(direction);
        let gap = from_centre.length_squared() - along * along;
        if gap > self.bound || (along < 0.0 && from_centre.length_squared() > self.bound) {
            return None;
        }
        let inverse = Vec2::new(self.heading.x, -self.heading.y);
        let local = |v: Vec3| inverse.rotate(v.truncate()).extend(v.z);
        let (start, towards) = (local(from_centre), local(direction));
        let hit = match self.form {
            Form::Sphere { radius } => meet_sphere(along, gap, radius)
                .map(|distance| Hit { distance, normal: (start + towards * distance) / radius }),
            Form::Block { half } => meet_block(start, towards, half),
            Form::Cylinder { radius, half_height } => meet_cylinder(start, towards, radius, half_height),
        }?;
        (hit.distance > NEAR).then(|| Hit {
            distance: hit.distance,
            normal: self.heading.rotate(hit.normal.truncate()).extend(hit.normal.z),
        })
    }
}

/// Closer intersections are with the surface that the ray starts from.
const NEAR: f32 = 1e-3;

fn meet_sphere(along: f32, gap: f32, radius: f32) -> Option<f32> {
    let half_chord = radius * radius - gap;
    (half_chord > 0.0).then(|| along - half_chord.sqrt())
}

/// Slab method: the ray is inside the box where it is inside all three pairs of planes.
fn meet_block(start: Vec3, towards: Vec3, half: Vec3) -> Option<Hit> {
    let inverse = towards.recip();
    let (one, other) = ((-half - start) * inverse, (half - start) * inverse);
    let (enter, leave) = (one.min(other), one.max(other));
    let distance = enter.max_element();
    if distance > leave.min_element() {
        return None;
    }
    let axis = if distance == enter.x {
        Vec3::X
    } else if distance == enter.y {
        Vec3::Y
    } else {
        Vec3::Z
    };
    Some(Hit { distance, normal: -axis * towards.signum() })
}

fn meet_cylinder(start: Vec3, towards: Vec3, radius: f32, half_height: f32) -> Option<Hit> {
    let (flat, step) = (start.truncate(), towards.truncate());
    let speed = step.length_squared();
    let along = -flat.dot(step) / speed.max(1e-12);
    let half_chord = (radius * radius - (flat + step * along).length_squared()) / speed.max(1e-12);
    if half_chord <= 0.0 {
        return None;
    }
    let side = along - half_chord.sqrt();
    if (start.z + towards.z * side).abs() <= half_height {
        let normal = ((flat + step * side) / radius).extend(0.0);
        return Some(Hit { distance: side, normal });
    }
    let cap = (-half_height * towards.z.signum() - start.z) / towards.z;
    ((flat + step * cap).length_squared() < radius * radius && cap > side)
        .then(|| Hit { distance: cap, normal: Vec3::Z * -towards.z.signum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: Vec3 = Vec3::splat(0.5);

    fn check(solid: Solid, origin: Vec3, direction: Vec3, distance: f32, normal: Vec3) {
        let hit = solid.meet(origin, direction.normalize()).expect("the ray must hit the solid");
        assert!((hit.distance - distance).abs() < 1e-4, "{}", hit.distance);
        assert!(hit.normal.abs_diff_eq(normal, 1e-4), "{}", hit.normal);
    }

    #[test]
    fn rays_hit_solids_at_the_computed_points() {
        let from = Vec3::new(0.0, -5.0, 0.0);
        let material = Material::matt(GREY);
        check(Solid::sphere(Vec3::ZERO, 1.5, material), from, Vec3::Y, 3.5, -Vec3::Y);
        check(Solid::block(Vec3::ZERO, Vec3::new(1.0, 2.0, 1.0), material), from, Vec3::Y, 3.0, -Vec3::Y);
        check(Solid::cylinder(Vec3::ZERO, 0.5, 1.0, material), from, Vec3::Y, 4.5, -Vec3::Y);
        let above = Vec3::new(0.1, 0.1, 5.0);
        check(Solid::cylinder(Vec3::ZERO, 0.5, 1.0, material), above, -Vec3::Z, 4.0, Vec3::Z);
    }

    #[test]
    fn a_rotated_block_shows_its_other_side() {
        let block = Solid::block(Vec3::ZERO, Vec3::new(1.0, 2.0, 1.0), Material::matt(GREY));
        let turned = block.turned(std::f32::consts::FRAC_PI_2);
        check(turned, Vec3::new(0.1, -5.0, 0.0), Vec3::Y, 4.0, -Vec3::Y);
    }

    #[test]
    fn a_ray_that_misses_or_points_away_hits_nothing() {
        let ball = Solid::sphere(Vec3::ZERO, 1.0, Material::matt(GREY));
        assert!(ball.meet(Vec3::new(1.1, -5.0, 0.0), Vec3::Y).is_none());
        assert!(ball.meet(Vec3::new(0.0, 5.0, 0.0), Vec3::Y).is_none());
    }
}

//! What a synthetic stand-in is asked for: the generator that draws it and its parameter. `synthetic` draws them.

use serde::{Deserialize, Serialize};

/// A drawn task: the generator and its parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "generator", rename_all = "snake_case", deny_unknown_fields)]
pub enum MiniTask {
    /// Figures over a ground.
    Composition {
        /// What they are.
        portrayal: Portrayal,
    },
    /// Individuals of one kind, whose classes differ in small parts.
    Specimen {
        /// Which kind.
        kind: SpecimenKind,
    },
    /// Surfaces without an object.
    Texture {
        /// Which.
        surface: Surface,
    },
    /// A digit between others.
    Glyph {},
    /// Medical images.
    Tissue {
        /// What is asked.
        question: TissueQuestion,
    },
    /// dSprites.
    Sprite {
        /// The factor to predict.
        factor: SpriteFactor,
    },
    /// Shaded scenes in three dimensions.
    Scene {
        /// What is asked.
        question: SceneQuestion,
    },
}

/// What is asked of a shaded scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SceneQuestion {
    /// CLEVR: how many objects.
    ObjectCount,
    /// CLEVR: how far the closest object is.
    ClosestObjectDistance,
    /// DeepMind Lab: which reward, how far.
    RewardDistance,
    /// KITTI: how far the closest vehicle is.
    ClosestVehicleDistance,
    /// Small NORB: from which side.
    Azimuth,
    /// Small NORB: from which height.
    Elevation,
}

/// What a composition shows, and so what its classes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Portrayal {
    /// A small thing in clutter: 5 outlines x 4 fills.
    Object,
    /// A large thing on a quiet ground: 20 outlines, any fill.
    Silhouette,
    /// A flower among leaves: 4 numbers of petals x 2 forms x 2 centres.
    Flower,
    /// An animal's head: 3 forms of ears x 4 coats.
    Animal,
    /// A view: 4 skylines x 3 grounds.
    Place,
}

/// The kind of a specimen, and so the parts in which its classes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecimenKind {
    /// A bird from the side: 2 beaks x 2 tails, with and without cap, with and without wing bars.
    Bird,
    /// The same bird: 3 breasts x 3 crests, with and without a stripe through the eye.
    Songbird,
    /// A dog's head: 2 forms of ears x 2 muzzles, with and without mask, with and without blaze.
    Dog,
    /// A car from the side: 5 bodies x 2 rims, with and without a second pillar.
    Car,
}

/// Which factor is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpriteFactor {
    /// Horizontal position: 32 values in 16 classes.
    XPosition,
    /// Orientation: 40 values in 16 classes.
    Orientation,
}

/// Which surface a texture task shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// Twelve patterns in any colours, scale, rotation and distortion.
    Material,
    /// EuroSAT's ten classes.
    LandUse,
    /// Fifteen of RESISC45's scenes.
    AerialScene,
}

/// What is asked of the tissue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TissueQuestion {
    /// Whether the central third holds a tumour cell; those outside do not count (Veeling et al. 2018).
    TumourInCentre,
    /// The grade 0..=4 of retinopathy, by the number and the kind of lesions (international clinical scale).
    RetinopathyGrade,
}

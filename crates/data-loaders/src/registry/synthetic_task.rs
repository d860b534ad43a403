//! Parameters of a synthetic stand-in: the generator and its argument. Implemented in `synthetic`.

use serde::{Deserialize, Serialize};

/// A synthetic task: the generator and its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "generator", rename_all = "snake_case", deny_unknown_fields)]
pub enum MiniTask {
    /// Figures on a background.
    Composition {
        /// The kind of figure.
        portrayal: Portrayal,
    },
    /// Specimens of one kind, whose classes differ in small parts.
    Specimen {
        /// The kind.
        kind: SpecimenKind,
    },
    /// Surfaces without an object.
    Texture {
        /// The surface.
        surface: Surface,
    },
    /// A digit between other digits.
    Glyph {},
    /// Medical images.
    Tissue {
        /// The label to predict.
        question: TissueQuestion,
    },
    /// dSprites.
    Sprite {
        /// The factor to predict.
        factor: SpriteFactor,
    },
    /// Shaded 3D scenes.
    Scene {
        /// The label to predict.
        question: SceneQuestion,
    },
}

/// The label to predict from a shaded scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SceneQuestion {
    /// CLEVR: number of objects.
    ObjectCount,
    /// CLEVR: distance of the closest object.
    ClosestObjectDistance,
    /// DeepMind Lab: kind and distance of the reward.
    RewardDistance,
    /// KITTI: distance of the closest vehicle.
    ClosestVehicleDistance,
    /// Small NORB: azimuth of the camera.
    Azimuth,
    /// Small NORB: elevation of the camera.
    Elevation,
}

/// The subject of a composition, which determines its classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Portrayal {
    /// A small object in clutter: 5 outlines x 4 fills.
    Object,
    /// A large object on a plain background: 20 outlines, any fill.
    Silhouette,
    /// A flower among leaves: 4 petal counts x 2 petal shapes x 2 centres.
    Flower,
    /// An animal's head: 3 ear shapes x 4 coats.
    Animal,
    /// A landscape: 4 skylines x 3 grounds.
    Place,
}

/// The kind of specimen, which determines the parts in which its classes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecimenKind {
    /// A bird from the side: 2 beaks x 2 tails, with and without cap, with and without wing bars.
    Bird,
    /// The same bird: 3 breasts x 3 crests, with and without an eye stripe.
    Songbird,
    /// A dog's head: 2 ear shapes x 2 muzzles, with and without mask, with and without blaze.
    Dog,
    /// A car from the side: 5 bodies x 2 rims, with and without a second pillar.
    Car,
}

/// The factor to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpriteFactor {
    /// Horizontal position: 32 values in 16 classes.
    XPosition,
    /// Orientation: 40 values in 16 classes.
    Orientation,
}

/// The surface of a texture task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// Twelve patterns with random colours, scale, rotation and distortion.
    Material,
    /// EuroSAT's ten classes.
    LandUse,
    /// Fifteen of RESISC45's scenes.
    AerialScene,
}

/// The label to predict from a tissue image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TissueQuestion {
    /// Whether the central third contains a tumour cell; cells outside it do not count (Veeling et al. 2018).
    TumourInCentre,
    /// Retinopathy grade 0..=4, by the number and kind of lesions (international clinical scale).
    RetinopathyGrade,
}

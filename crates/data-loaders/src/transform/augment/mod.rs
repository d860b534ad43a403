//! Random augmentation of training images: timm's recipe for ViT, as named fields of a configuration.
//!
//! In timm's order: a random crop is resized to the input size (`crop`), flipped, changed by two RandAugment operations
//! (`rand_augment`, `operation`), normalised, and a rectangle is erased (`erase`); then the images of a batch are mixed
//! and their labels become soft targets (`mix`). All choices for an image are a function of (seed, epoch, index), those
//! for a batch of (seed, epoch, step), so any thread may make any image, and a resumed training run sees the same data.

mod affine;
mod crop;
mod enhance;
mod erase;
mod levels;
mod mix;
mod operation;
mod rand_augment;

use image::RgbImage;
use serde::{Deserialize, Serialize};

pub(crate) use crop::Part;
pub use mix::{Mix, Rectangle, mix_pixels, soft_targets};
pub use rand_augment::RandAugment;

use crate::random::Stream;
use crate::transform::protocol::{Filter, ImageProtocol};
use crate::transform::resize;

/// Augmentation of training images; the default is timm's recipe. It replaces the protocol's resize; image size and
/// normalisation still apply.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Instead of the crop that `scale` and `ratio` describe: the shorter side is resized to this length, and a square of
    /// the input size is cropped at random. VPT's FGVC runs have 256 for an input of 224.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shorter_side: Option<u32>,
    /// Minimum and maximum share of the image's area that is kept.
    pub scale: (f64, f64),
    /// Minimum and maximum ratio of the crop's width to its height.
    pub ratio: (f64, f64),
    /// The interpolation kernel of cropping and of RandAugment's geometric operations.
    pub interpolation: Interpolation,
    /// The probability of a horizontal flip.
    pub flip: f64,
    /// RandAugment operations applied to each image.
    pub rand_augment: Option<RandAugment>,
    /// The probability of random erasing with noise of mean 0 and standard deviation 1, after normalisation.
    pub erasing: f64,
    /// Both parameters of the beta distribution of mixup's weight; 0 disables mixup.
    pub mixup: f64,
    /// The same for cutmix's share; 0 disables cutmix.
    pub cutmix: f64,
    /// The probability that a batch is mixed at all.
    pub mix_probability: f64,
    /// The probability of cutmix rather than mixup, if both are enabled.
    pub cutmix_probability: f64,
    /// The mass taken from the target class and spread evenly over all classes.
    pub label_smoothing: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            shorter_side: None,
            scale: (0.08, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            interpolation: Interpolation::Random,
            flip: 0.5,
            rand_augment: Some(RandAugment::default()),
            erasing: 0.25,
            mixup: 0.8,
            cutmix: 1.0,
            mix_probability: 1.0,
            cutmix_probability: 0.5,
            label_smoothing: 0.1,
        }
    }
}

/// The interpolation kernel of augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Bilinear or bicubic, sampled for each use: timm's default.
    Random,
    /// The protocol's.
    Protocol,
}

impl Interpolation {
    fn draw(self, protocol: &ImageProtocol, stream: &mut Stream) -> Filter {
        match self {
            Self::Random => stream.pick(&[Filter::Bilinear, Filter::Bicubic]),
            Self::Protocol => protocol.filter,
        }
    }
}

impl Augmentation {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// A clause that names the field that is out of range.
    pub fn check(&self, image_size: u32) -> Result<(), String> {
        if self.shorter_side.is_some_and(|side| side < image_size) {
            return Err(format!("`shorter_side` must be at least the `image_size`, {image_size}"));
        }
        let probabilities = [
            ("flip", self.flip),
            ("erasing", self.erasing),
            ("mix_probability", self.mix_probability),
            ("cutmix_probability", self.cutmix_probability),
            ("label_smoothing", self.label_smoothing),
            ("probability of rand_augment", self.rand_augment.map_or(0.0, |recipe| recipe.probability)),
        ];
        if let Some((field, _)) = probabilities.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(format!("`{field}` is not between 0 and 1"));
        }
        let ordered = |(low, high): (f64, f64), most: f64| 0.0 < low && low <= high && high <= most;
        if !ordered(self.scale, 1.0) || !ordered(self.ratio, 1e3) || self.ratio.0 < 1e-3 {
            return Err(
                "`scale` is not a range within 0 to 1, or `ratio` is not one within 0.001 to 1000".to_owned()
            );
        }
        if [self.mixup, self.cutmix].iter().any(|alpha| !(0.0..=100.0).contains(alpha)) {
            return Err("`mixup` or `cutmix` is not between 0 and 100".to_owned());
        }
        self.rand_augment.map_or(Ok(()), |recipe| recipe.check())
    }

    /// Whether a batch's targets are soft.
    pub fn softens_targets(&self) -> bool {
        self.label_smoothing > 0.0 || self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Writes the augmented image for `stream` as normalised planes, `[3, side, side]`; the error is a clause.
    pub(crate) fn apply(
        &self,
        image: &RgbImage,
        protocol: &ImageProtocol,
        stream: &mut Stream,
        planes: &mut [f32],
    ) -> Result<(), String> {
        let side = protocol.image_size;
        let bytes = match self.shorter_side {
            Some(shorter) => {
                let filter = self.interpolation.draw(protocol, stream);
                let start = |free: u64| stream.below(free as usize + 1) as u64;
                resize::resize_and_crop(image, shorter, side, filter, start)?
            }
            None => {
                let part = crop::sample(image.dimensions(), self.scale, self.ratio, stream);
                let filter = self.interpolation.draw(protocol, stream);
                resize::resize_part(image, part, side, filter)?
            }
        };
        let mut image = RgbImage::from_raw(side, side, bytes).ok_or("its size differs from the input's")?;
        if stream.chance(self.flip as f32) {
            image::imageops::flip_horizontal_in_place(&mut image);
        }
        if let Some(recipe) = &self.rand_augment {
            image = recipe.apply(image, protocol, self.interpolation, stream);
        }
        resize::normalise(image.as_raw(), &resize::levels(protocol), planes);
        if stream.chance(self.erasing as f32) {
            erase::erase(planes, side as usize, stream);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::protocol::{Normalisation, Resize};

    const PROTOCOL: ImageProtocol = ImageProtocol {
        image_size: 24,
        resize: Resize::Plain,
        filter: Filter::Bicubic,
        normalisation: Normalisation::Half,
    };

    fn changed(augmentation: &Augmentation, index: u64) -> Vec<f32> {
        let image = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, (x * y) as u8]));
        let mut planes = vec![0.0; 3 * 24 * 24];
        let mut stream = Stream::new("augmentation", &[0, 0, index]);
        augmentation.apply(&image, &PROTOCOL, &mut stream, &mut planes).unwrap();
        planes
    }

    #[test]
    fn an_image_is_augmented_as_a_function_of_its_index() {
        let recipe = Augmentation::default();
        for index in 0..50 {
            assert_eq!(changed(&recipe, index), changed(&recipe, index));
            assert_ne!(changed(&recipe, index), changed(&recipe, index + 1));
        }
    }

    #[test]
    fn without_augmentation_the_whole_image_is_resized() {
        let nothing = Augmentation {
            scale: (1.0, 1.0),
            ratio: (40.0 / 30.0, 40.0 / 30.0),
            interpolation: Interpolation::Protocol,
            flip: 0.0,
            rand_augment: None,
            erasing: 0.0,
            ..Augmentation::default()
        };
        let image = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, (x * y) as u8]));
        let mut plain = vec![0.0; 3 * 24 * 24];
        resize::normalise(
            &resize::resize(&image, &PROTOCOL).unwrap(),
            &resize::levels(&PROTOCOL),
            &mut plain,
        );
        assert_eq!(changed(&nothing, 7), plain);
    }

    #[test]
    fn a_file_overrides_only_what_differs_from_the_default_recipe() {
        let read = serde_json::from_str::<Augmentation>;
        assert_eq!(read("{}").unwrap(), Augmentation::default());
        let changed = read(r#"{"mixup": 0.0, "rand_augment": null}"#).unwrap();
        assert_eq!(changed, Augmentation { mixup: 0.0, rand_augment: None, ..Augmentation::default() });
        assert!(read(r#"{"mixxup": 0.0}"#).is_err());
        assert!(
            Augmentation { erasing: 1.5, ..Augmentation::default() }
                .check(24)
                .unwrap_err()
                .contains("erasing")
        );
        assert!(Augmentation { scale: (0.0, 1.0), ..Augmentation::default() }.check(24).is_err());
        assert!(Augmentation { shorter_side: Some(23), ..Augmentation::default() }.check(24).is_err());
        assert!(Augmentation::default().check(24).is_ok());
    }

    /// Every crop of an enlarged image, cut from the whole of it.
    #[test]
    fn a_crop_after_resizing_the_shorter_side_is_a_part_of_the_resized_image() {
        let crop_only = Augmentation {
            shorter_side: Some(30),
            interpolation: Interpolation::Protocol,
            flip: 0.0,
            rand_augment: None,
            erasing: 0.0,
            ..Augmentation::default()
        };
        let image = RgbImage::from_fn(80, 60, |x, y| image::Rgb([x as u8 * 3, y as u8 * 4, (x * y) as u8]));
        // Halved in both directions: 40 x 30 pixels.
        let plain = |width: u32, height: u32| {
            let whole = image::imageops::crop_imm(&image, 0, 0, width, height).to_image();
            resize::resize_part(&whole, Part { left: 0, top: 0, width, height }, 30, Filter::Bicubic).unwrap()
        };
        let square = RgbImage::from_raw(30, 30, plain(60, 60)).unwrap();
        let mut starts = std::collections::BTreeSet::new();
        for index in 0..300 {
            let mut planes = vec![0.0; 3 * 24 * 24];
            let mut stream = Stream::new("augmentation", &[0, 0, index]);
            crop_only.apply(&image, &PROTOCOL, &mut stream, &mut planes).unwrap();
            let found =
                (0..=16_u32).flat_map(|left| (0..=6_u32).map(move |top| (left, top))).find(|&(left, top)| {
                    // Away from the right edge of the square, where the kernels see other pixels.
                    let columns = 26_u32.saturating_sub(left).min(24);
                    columns >= 12
                        && (0..24).all(|y| {
                            (0..columns).all(|x| {
                                let pixel = square.get_pixel(left + x, top + y).0;
                                (0..2).all(|channel| {
                                    let level = f32::from(pixel[channel]) / 127.5 - 1.0;
                                    let place = channel * 24 * 24 + (y * 24 + x) as usize;
                                    (planes[place] - level).abs() < 0.01
                                })
                            })
                        })
                });
            starts.extend(found);
        }
        assert!(starts.len() > 60, "{starts:?}");
        assert!(starts.iter().any(|(left, _)| *left == 0) && starts.iter().any(|(_, top)| *top == 6));
    }
}

//! Images that stay on a GPU, as bytes: a step then gathers and normalises its batch there, and nothing is decoded or
//! copied twice.

use anyhow::Result;
use data_loaders::{ImageProtocol, ImageSet, Split};
use tch::{Device, Kind, Tensor};

/// The most memory that all kept images take, bytes.
const BUDGET: usize = 8 << 30;
/// Images that are decoded between two calls of `check`.
const DECODED_TOGETHER: usize = 512;

/// The images of splits on a GPU, by a key of everything that they depend on.
#[derive(Debug, Default)]
pub struct DeviceImages {
    /// Oldest first.
    kept: Vec<(String, Tensor)>,
}

impl DeviceImages {
    /// All images of a split as bytes, `[images, side, side, 3]`, read once and kept; `None` if they are too many. `check`
    /// is called every now and then while they are read, and fails if that should stop.
    ///
    /// # Errors
    /// When an image cannot be read; errors of `check`.
    pub fn of_split(
        &mut self,
        set: &ImageSet,
        split: Split,
        protocol: &ImageProtocol,
        device: Device,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Option<Tensor>> {
        let side = protocol.image_size as usize;
        let bytes = set.len(split) * side * side * 3;
        if bytes == 0 || bytes > BUDGET / 2 {
            return Ok(None);
        }
        let shown = (protocol.image_size, protocol.resize, protocol.filter);
        let key = format!("{} {split:?} {shown:?}", set.checksum());
        if let Some((_, images)) = self.kept.iter().find(|(known, _)| *known == key) {
            return Ok(Some(images.shallow_clone()));
        }
        while self.bytes() + bytes > BUDGET {
            drop(self.kept.remove(0));
        }
        let indices: Vec<usize> = (0..set.len(split)).collect();
        let mut parts = Vec::new();
        for some in indices.chunks(DECODED_TOGETHER) {
            check()?;
            let pixels = Tensor::f_from_slice(&set.read_bytes(split, some, protocol)?)?;
            parts.push(pixels.f_view([-1, side as i64, side as i64, 3])?.f_to_device(device)?);
        }
        let images = Tensor::f_cat(&parts, 0)?;
        self.kept.push((key, images.shallow_clone()));
        Ok(Some(images))
    }

    fn bytes(&self) -> usize {
        self.kept.iter().map(|(_, images)| images.numel()).sum()
    }
}

/// Normalises images `[batch, side, side, 3]` of bytes to `[batch, 3, side, side]`, with the values that
/// [`ImageSet::read`] gives, to the last bit.
///
/// # Errors
/// When libtorch fails.
pub fn normalised(bytes: &Tensor, protocol: &ImageProtocol) -> Result<Tensor> {
    let (mean, deviation) = protocol.normalisation.statistics();
    // By numbers, not tensors, which would be copied to the device.
    let channel = |channel: usize| -> Result<Tensor> {
        let mut values = bytes.f_select(3, channel as i64)?.f_to_kind(Kind::Float)?;
        let (mean, deviation) = (f64::from(mean[channel]), f64::from(deviation[channel]));
        let _ = values.f_div_scalar_(255.0)?.f_sub_scalar_(mean)?.f_div_scalar_(deviation)?;
        Ok(values)
    };
    Ok(Tensor::f_stack(&[channel(0)?, channel(1)?, channel(2)?], 1)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use data_loaders::{Filter, Normalisation, Resize, SplitCounts, dataset};

    use super::*;

    #[test]
    fn kept_images_have_the_values_of_loaded_ones_to_the_last_bit_and_are_read_once() {
        let counts = SplitCounts { train: 5, val: 2, test: 3 };
        let set = ImageSet::draw(dataset("svhn").unwrap(), counts, 32).unwrap();
        let mut images = DeviceImages::default();
        for normalisation in [Normalisation::Imagenet, Normalisation::Half] {
            let protocol = ImageProtocol {
                image_size: 24,
                resize: Resize::Plain,
                filter: Filter::Bilinear,
                normalisation,
            };
            let mut of_split =
                |split| images.of_split(&set, split, &protocol, Device::Cpu, &|| Ok(())).unwrap().unwrap();
            let kept = normalised(&of_split(Split::TrainVal), &protocol).unwrap();
            let mut loaded = Vec::new();
            set.read(Split::TrainVal, &[0, 1, 2, 3, 4, 5, 6], &protocol, &mut loaded).unwrap();
            assert_eq!(kept, Tensor::from_slice(&loaded).view([7, 3, 24, 24]));
            assert_eq!(of_split(Split::Test).size(), [3, 24, 24, 3]);
        }
        assert_eq!(images.kept.len(), 2, "the bytes are those of any normalisation");
    }
}

//! Properties of any image and any protocol: the requested input size, values in the range of their levels, no panic,
//! and no colour that the image does not contain.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::write_text;
use data_loaders::{
    Augmentation, CropShare, DataError, Filter, ImageProtocol, ImageSet, Normalisation, RandAugment, Resize,
    Split, dataset,
};
use image::{Rgb, RgbImage};
use proptest::prelude::*;

/// Opens a dataset of three images of one size, each with a different colour scheme; the first is the training image.
fn set_of(width: u32, height: u32, colour: Rgb<u8>, plain: bool) -> (tempfile::TempDir, ImageSet) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("svhn");
    for (index, list) in ["train800.txt", "val200.txt", "test.txt"].iter().enumerate() {
        let image = RgbImage::from_fn(width, height, |x, y| {
            let Rgb([red, green, blue]) = colour;
            if plain { colour } else { Rgb([red ^ (x as u8), green ^ (y as u8), blue ^ (index as u8)]) }
        });
        write_text(&folder, list, &format!("{index}.png 0\n"));
        image.save(folder.join(format!("{index}.png"))).unwrap();
    }
    write_text(&folder, "train800val200.txt", "0.png 0\n1.png 0\n");
    let set = ImageSet::open(dataset("svhn").unwrap(), root.path()).unwrap();
    (root, set)
}

fn lengths() -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![(1..60_u32, 1..60_u32), (1..3_u32, 1..3000_u32), (1..3000_u32, 1..3_u32)]
}

fn protocols() -> impl Strategy<Value = ImageProtocol> {
    let share = (1..=1000_u32).prop_map(|thousandths| Resize::TimmEval {
        crop_pct: CropShare::try_from(f64::from(thousandths) / 1000.0).unwrap(),
    });
    let resize = prop_oneof![Just(Resize::Plain), share];
    let filter = prop_oneof![Just(Filter::Bilinear), Just(Filter::Bicubic)];
    (1..50_u32, resize, filter).prop_map(|(image_size, resize, filter)| ImageProtocol {
        image_size,
        resize,
        filter,
        normalisation: Normalisation::None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_image_becomes_an_input(
        (width, height) in lengths(), protocol in protocols(), colour in any::<[u8; 3]>(), seed in any::<u64>(),
    ) {
        let (_root, set) = set_of(width, height, Rgb(colour), false);
        let values = 3 * (protocol.image_size * protocol.image_size) as usize;
        let mut pixels = Vec::new();
        set.read(Split::TrainVal, &[1, 0], &protocol, &mut pixels).unwrap();
        prop_assert_eq!(pixels.len(), 2 * values);
        prop_assert!(pixels.iter().all(|value| (0.0..=1.0).contains(value)));

        let all = Augmentation {
            erasing: 0.0,
            rand_augment: Some(RandAugment { probability: 1.0, operations: 4, ..RandAugment::default() }),
            ..Augmentation::default()
        };
        let changed = set.read_augmented(Split::Test, &[0], &protocol, &all, (seed, 0)).unwrap();
        prop_assert_eq!(changed.len(), values);
        prop_assert!(changed.iter().all(|value| (0.0..=1.0).contains(value)));
        let erased = Augmentation { erasing: 1.0, ..all };
        let changed = set.read_augmented(Split::Test, &[0], &protocol, &erased, (seed, 0)).unwrap();
        prop_assert!(changed.len() == values && changed.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn an_image_of_one_colour_stays_so(
        (width, height) in lengths(), protocol in protocols(), colour in any::<[u8; 3]>(),
    ) {
        let (_root, set) = set_of(width, height, Rgb(colour), true);
        let mut pixels = Vec::new();
        set.read(Split::Test, &[0], &protocol, &mut pixels).unwrap();
        let planes = pixels.chunks((protocol.image_size * protocol.image_size) as usize);
        for (plane, level) in planes.zip(colour) {
            prop_assert!(plane.iter().all(|value| (value * 255.0).round() as u8 == level));
        }
    }

    #[test]
    fn a_size_or_an_index_out_of_range_is_an_error(size in prop_oneof![Just(0), 4097..=u32::MAX], index in 1..9_usize) {
        let (_root, set) = set_of(2, 2, Rgb([1, 2, 3]), true);
        let protocol = ImageProtocol {
            image_size: size,
            resize: Resize::Plain,
            filter: Filter::Bilinear,
            normalisation: Normalisation::Half,
        };
        let augmentation = Augmentation::default();
        let (mut pixels, right) = (Vec::new(), ImageProtocol { image_size: 3, ..protocol });
        let read = set.read(Split::Test, &[0], &protocol, &mut pixels);
        prop_assert!(matches!(read, Err(DataError::ImageSize { .. })), "{:?}", read);
        let read = set.read_augmented(Split::Test, &[0], &protocol, &augmentation, (0, 0));
        prop_assert!(matches!(read, Err(DataError::ImageSize { .. })), "{:?}", read);
        let read = set.read_augmented(Split::Test, &[index], &right, &augmentation, (0, 0));
        prop_assert!(matches!(read, Err(DataError::IndexOutOfRange { .. })), "{:?}", read);
        prop_assert!(pixels.is_empty());
    }
}

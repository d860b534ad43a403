//! What would be read from a folder: classes, counts, sizes, and a few images side by side.

use std::path::Path;

use image::{ImageFormat, RgbImage, imageops};

use crate::error::DataError;
use crate::registry::{ClassNames, DatasetEntry};
use crate::sources::layout::{self, Listing, SplitOrigin, own};
use crate::sources::sample::{Fault, Sample, decode};
use crate::split::SplitCounts;

/// Number of images shown.
const SHOWN: usize = 10;
/// Images in a row.
const COLUMNS: usize = 5;
/// Side of the square that an image is shown in, in pixels.
const CELL: u32 = 160;

/// What would be read from a folder.
#[derive(Debug)]
pub struct Inspection {
    /// The kind of the folder, in words.
    pub kind: &'static str,
    /// The set as it would be used.
    pub entry: DatasetEntry,
    /// Where the split comes from.
    pub origin: SplitOrigin,
    /// Number of images in each part.
    pub counts: SplitCounts,
    /// Name of each class, with its number of images in train, val and test.
    pub classes: Vec<(String, [usize; 3])>,
    /// Width and height of the images shown.
    pub sizes: Vec<(u32, u32)>,
    /// The images shown, as a PNG: evenly spaced over train, val and test.
    pub picture: Vec<u8>,
}

/// Reads the lists of a folder, and decodes ten of its images.
///
/// # Errors
/// As opening the set; and if one of the ten images cannot be decoded.
pub fn inspect(folder: &Path) -> Result<Inspection, DataError> {
    let name =
        folder.file_name().map_or_else(|| "own".to_owned(), |name| name.to_string_lossy().into_owned());
    let entry = own::own_set(&name, folder)?;
    let Listing { parts, drawn, .. } = layout::list(&entry, &own::root_of(folder))?;
    let [train, val, test] = parts.each_ref().map(Vec::len);
    let counts = SplitCounts { train, val, test };
    let names = match &entry.class_names {
        ClassNames::Listed(names) => names.clone(),
        ClassNames::Rule(_) => Vec::new(),
    };
    let mut classes: Vec<(String, [usize; 3])> = names.into_iter().map(|name| (name, [0; 3])).collect();
    for (part, samples) in parts.iter().enumerate() {
        for sample in samples {
            if let Some((_, counts)) = classes.get_mut(sample.label as usize) {
                counts[part] += 1;
            }
        }
    }
    let all: Vec<&Sample> = parts.iter().flatten().collect();
    let count = all.len().min(SHOWN);
    let shown = (0..count).map(|index| all[index * all.len() / count]);
    let images = shown.map(|sample| read(&name, sample)).collect::<Result<Vec<_>, _>>()?;
    let bad = |reason: String| DataError::BadFile { set: name.clone(), path: folder.to_owned(), reason };
    Ok(Inspection {
        kind: own::kind(folder).unwrap_or("unknown"),
        origin: SplitOrigin::of(&entry, drawn, counts),
        counts,
        classes,
        sizes: images.iter().map(RgbImage::dimensions).collect(),
        picture: side_by_side(&images).map_err(bad)?,
        entry,
    })
}

fn read(set: &str, sample: &Sample) -> Result<RgbImage, DataError> {
    let content = sample.place.content().map_err(|fault| sample.error(set, fault))?;
    decode(content).map_err(|reason| sample.error(set, Fault::Bad(reason)))
}

/// Images in rows, each scaled to fit its square, as a PNG.
///
/// # Errors
/// If it cannot be encoded.
pub fn side_by_side(images: &[RgbImage]) -> Result<Vec<u8>, String> {
    let rows = images.len().div_ceil(COLUMNS).max(1) as u32;
    let mut sheet = RgbImage::new(CELL * COLUMNS as u32, CELL * rows);
    for (index, image) in images.iter().enumerate() {
        let most = image.width().max(image.height()).max(1);
        let side = |length: u32| (length * CELL / most).max(1);
        let small = imageops::thumbnail(image, side(image.width()), side(image.height()));
        let place = |index: usize| i64::from(CELL) * index as i64;
        imageops::replace(&mut sheet, &small, place(index % COLUMNS), place(index / COLUMNS));
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    sheet.write_to(&mut bytes, ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(bytes.into_inner())
}

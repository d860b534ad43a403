//! Renders a contact sheet of synthetic images: `cargo run -p data-loaders --example contact_sheet -- OUT.png [TASK]`.
//!
//! Without a task, each row shows one mini task with images of its first classes, and the last rows show pretraining
//! images; with a task (say `svhn`, or `pretrain`), each row is a class. Check the sheet after changing a generator.

use data_loaders::{DataError, dataset, datasets};
use data_loaders::{Filter, ImageProtocol, ImageSet, Normalisation, PretrainSet, Resize, Split, SplitCounts};
use image::{Rgb, RgbImage};

/// Side of a generated image, and the enlargement factor.
const SIDE: u32 = 32;
const ZOOM: u32 = 2;
const COLUMNS: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().ok_or("usage: contact_sheet OUT.png [TASK]")?;
    let rows = match arguments.next().as_deref() {
        None => overview()?,
        Some("pretrain") => pretraining(24),
        Some(name) => classes(name)?,
    };
    sheet(&rows).save(out)?;
    Ok(())
}

/// One row per task, then four rows of pretraining images.
fn overview() -> Result<Vec<Vec<f32>>, DataError> {
    let mut rows = Vec::new();
    for entry in datasets()?.iter().filter(|entry| entry.mini.is_some()) {
        let set = ImageSet::draw(entry, SplitCounts { train: 64, val: 0, test: 0 }, SIDE)?;
        let mut order: Vec<usize> = (0..64).collect();
        order.sort_by_key(|index| set.labels(Split::Train)[*index]);
        let spread: Vec<usize> = (0..COLUMNS).map(|column| order[column * 64 / COLUMNS]).collect();
        rows.push(read(&set, &spread)?);
    }
    rows.extend(pretraining(4));
    Ok(rows)
}

/// One row per class.
fn classes(name: &str) -> Result<Vec<Vec<f32>>, DataError> {
    let set = ImageSet::draw(dataset(name)?, SplitCounts { train: 800, val: 0, test: 0 }, SIDE)?;
    let labels = set.labels(Split::Train);
    (0..set.classes())
        .map(|class| {
            let indices: Vec<usize> =
                (0..labels.len()).filter(|index| labels[*index] == class).take(COLUMNS).collect();
            read(&set, &indices)
        })
        .collect()
}

fn read(set: &ImageSet, indices: &[usize]) -> Result<Vec<f32>, DataError> {
    let normalisation = Normalisation::None;
    let protocol =
        ImageProtocol { image_size: SIDE, resize: Resize::Plain, filter: Filter::Bilinear, normalisation };
    let mut pixels = Vec::new();
    set.read(Split::Train, indices, &protocol, &mut pixels)?;
    Ok(pixels)
}

fn pretraining(rows: usize) -> Vec<Vec<f32>> {
    let set = PretrainSet::new(0, SIDE);
    (0..rows)
        .map(|row| {
            let (mut bytes, mut labels) = (Vec::new(), Vec::new());
            set.draw((row * COLUMNS) as u64, COLUMNS, &mut bytes, &mut labels);
            bytes.into_iter().map(|byte| f32::from(byte) / 255.0).collect()
        })
        .collect()
}

fn sheet(rows: &[Vec<f32>]) -> RgbImage {
    let cell = SIDE * ZOOM + 2;
    let area = (SIDE * SIDE) as usize;
    RgbImage::from_fn(cell * COLUMNS as u32, cell * rows.len() as u32, |x, y| {
        let (column, row) = ((x / cell) as usize, (y / cell) as usize);
        let (inner_x, inner_y) = (x % cell / ZOOM, y % cell / ZOOM);
        let place = (inner_y * SIDE + inner_x) as usize;
        let value = |channel: usize| rows[row].get((column * 3 + channel) * area + place);
        match (value(0), value(1), value(2)) {
            (Some(red), Some(green), Some(blue)) if inner_x < SIDE && inner_y < SIDE => {
                Rgb([*red, *green, *blue].map(|value| (value * 255.0).round() as u8))
            }
            _ => Rgb([255; 3]),
        }
    })
}

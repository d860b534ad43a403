//! Datasets whose labels VTAB computes from annotations: CLEVR's scenes and KITTI's objects (Zhai et al. 2019, appendix
//! A).

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::error::DataError;
use crate::io::files::{self, MAX_LIST_BYTES};
use crate::registry::ClevrQuestion;
use crate::sources::original::Folder;
use crate::sources::original::drives::parts_by_drive;
use crate::sources::parts::Pools;
use crate::sources::sample::Sample;

/// Lower bounds of VTAB's bins of the closest object's depth, after the first bin.
const CLEVR_DEPTHS: [f64; 5] = [8.0, 8.5, 9.0, 9.5, 10.0];
/// Lower bounds of VTAB's bins of the closest vehicle's distance in metres, after the first; the last bin is for images
/// without a vehicle.
const KITTI_DISTANCES: [f64; 3] = [8.0, 20.0, 999.0];
/// The distance used for "no vehicle".
const NO_VEHICLE: f64 = 1000.0;
/// Minimum number of objects in a CLEVR scene.
const MIN_OBJECTS: i64 = 3;

#[derive(Deserialize)]
struct Scenes {
    scenes: Vec<Scene>,
}

#[derive(Deserialize)]
struct Scene {
    image_filename: String,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    /// Column, row and depth.
    pixel_coords: [f64; 3],
}

/// Scenes in `scenes/CLEVR_<part>_scenes.json`, images in `images/<part>/`; the val part is VTAB's test part.
pub(super) fn clevr(folder: &Folder, question: ClevrQuestion) -> Result<Pools, DataError> {
    let part = |part: &str| {
        let path = folder.find(&format!("scenes/CLEVR_{part}_scenes.json"))?;
        let images = folder.find(&format!("images/{part}"))?;
        let list: Arc<Path> = path.as_path().into();
        let file =
            files::open(&path, MAX_LIST_BYTES).map_err(|error| folder.bad_file(&path, error.to_string()))?;
        let scenes: Result<Scenes, _> = serde_json::from_reader(BufReader::new(file));
        let Scenes { scenes } =
            scenes.map_err(|error| folder.bad_line(&path, error.line(), error.to_string()))?;
        let sample = |(scene, row): (Scene, usize)| {
            let label = match question {
                ClevrQuestion::Count => scene.objects.len() as i64 - MIN_OBJECTS,
                ClevrQuestion::Distance if scene.objects.is_empty() => {
                    return Err(folder.bad_line(&path, row, "the scene has no objects".into()));
                }
                ClevrQuestion::Distance => {
                    let depths = scene.objects.iter().map(|object| object.pixel_coords[2]);
                    bin(depths.fold(f64::INFINITY, f64::min), &CLEVR_DEPTHS)
                }
            };
            let image = folder.inside(&images, &scene.image_filename, &path, row)?;
            Ok(folder.listed(image, folder.label(label, 0, &path, row)?, &list, row))
        };
        scenes.into_iter().zip(1..).map(sample).collect::<Result<Vec<_>, DataError>>()
    };
    Ok([part("train")?, Vec::new(), part("val")?])
}

/// `training/label_2/<image>.txt`, one line per object; images in `training/image_2/`. Only this part has labels; it is
/// divided by drive.
pub(super) fn kitti(folder: &Folder) -> Result<Pools, DataError> {
    let labels = folder.base.join("training/label_2");
    let images = folder.find("training/image_2")?;
    let entries = std::fs::read_dir(&labels).map_err(|error| folder.bad_file(&labels, error.to_string()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    let part_of = parts_by_drive(folder)?;
    let mut pools = Pools::default();
    for path in &files {
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| folder.bad_file(path, "its name is not UTF-8".into()))?;
        let part = name.parse().ok().and_then(|number: usize| part_of.get(number).copied());
        let part = part.ok_or_else(|| {
            folder.bad_file(path, "mapping/train_rand.txt has no number for this image".into())
        })?;
        let label = folder.label(bin(closest_vehicle(folder, path)?, &KITTI_DISTANCES), 0, path, 1)?;
        pools[part].push(Sample::file(images.join(format!("{name}.png")), label));
    }
    Ok(pools)
}

/// The smallest z of the cars, vans and trucks: type first, location (x, y, z) in fields 12 to 14.
fn closest_vehicle(folder: &Folder, path: &Path) -> Result<f64, DataError> {
    let mut closest = NO_VEHICLE;
    for (line, row) in folder.rows(path)? {
        let z = row.get(13).and_then(|z| z.parse::<f64>().ok()).filter(|z| z.is_finite());
        let z =
            z.ok_or_else(|| folder.bad_line(path, line, "expected 15 fields, the 14th a number".into()))?;
        if ["Car", "Van", "Truck"].contains(&row[0].as_str()) {
            closest = closest.min(z);
        }
    }
    Ok(closest)
}

/// The bin of a value; bins begin above each of `starts`.
fn bin(value: f64, starts: &[f64]) -> i64 {
    starts.iter().filter(|start| value > **start).count() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_exclude_their_lower_and_include_their_upper_bound_as_in_vtab() {
        let bins = |values: &[f64], starts: &[f64]| {
            values.iter().map(|value| bin(*value, starts)).collect::<Vec<_>>()
        };
        assert_eq!(
            bins(&[3.0, 8.0, 8.1, 8.6, 9.1, 9.6, 10.0, 12.0], &CLEVR_DEPTHS),
            [0, 0, 1, 2, 3, 4, 4, 5]
        );
        assert_eq!(bins(&[-1.0, 7.9, 8.01, 20.0, 20.1, NO_VEHICLE], &KITTI_DISTANCES), [0, 0, 1, 1, 2, 3]);
    }
}

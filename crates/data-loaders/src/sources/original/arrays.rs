//! Datasets stored as pixel arrays: CIFAR-100, dSprites, Small NORB and PatchCamelyon.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::io::files;
use crate::registry::NorbFactor;
use crate::registry::SpriteFactor;
use crate::sources::formats::hdf5::{self, Hdf5Records};
use crate::sources::formats::norb;
use crate::sources::formats::npz::{self, NpzRecords};
use crate::sources::formats::pickle::Pickle;
use crate::sources::formats::raw::{FixedRecords, Order, Shape};
use crate::sources::original::Folder;
use crate::sources::parts::{self, Pools};
use crate::sources::sample::{Records, Sample};

const CIFAR: Shape = Shape { height: 32, width: 32, channels: 3, order: Order::Planar, scale: 1 };
/// A record of the binary version: coarse label, fine label, pixels.
const CIFAR_RECORD: usize = 2 + 3072;

/// Samples with checked labels; errors name the file the labels are from.
fn samples(
    folder: &Folder,
    records: impl Records + 'static,
    labels: &[i64],
) -> Result<Vec<Sample>, DataError> {
    let path = records.path().to_owned();
    let labels = labels.iter().zip(1..).map(|(label, row)| folder.label(*label, 0, &path, row));
    let labels = labels.collect::<Result<Vec<_>, _>>()?;
    let records: Arc<dyn Records> = Arc::new(records);
    Ok(Sample::records(&records, labels))
}

/// The binary version (`train.bin`, `test.bin`) or the Python version (`train`, `test`), with the fine labels.
pub(super) fn cifar(folder: &Folder) -> Result<Pools, DataError> {
    let part = |name: &str| {
        let binary = folder.base.join(format!("{name}.bin"));
        if binary.exists() { cifar_binary(folder, binary) } else { cifar_python(folder, folder.find(name)?) }
    };
    Ok([part("train")?, Vec::new(), part("test")?])
}

fn cifar_binary(folder: &Folder, path: PathBuf) -> Result<Vec<Sample>, DataError> {
    let bytes = folder.bytes(&path)?;
    let (records, rest) = bytes.as_chunks::<CIFAR_RECORD>();
    if !rest.is_empty() {
        let reason =
            format!("its {} bytes are not a multiple of {CIFAR_RECORD}; is the file truncated?", bytes.len());
        return Err(folder.bad_file(&path, reason));
    }
    let labels: Vec<i64> = records.iter().map(|record| i64::from(record[1])).collect();
    samples(folder, FixedRecords { path, offset: 2, stride: CIFAR_RECORD as u64, shape: CIFAR }, &labels)
}

fn cifar_python(folder: &Folder, path: PathBuf) -> Result<Vec<Sample>, DataError> {
    let bytes = folder.bytes(&path)?;
    let pickle = Pickle::parse(&bytes).map_err(|reason| folder.bad_file(&path, reason))?;
    let missing =
        |key: &str| folder.bad_file(&path, format!("its dictionary has no `{key}` of the expected type"));
    let labels = pickle.integers("fine_labels").ok_or_else(|| missing("fine_labels"))?;
    let pixels = pickle.array("data").ok_or_else(|| missing("data"))?;
    if pixels.len() != labels.len() * CIFAR.len() {
        let reason = format!("{} bytes of pixels for {} labels", pixels.len(), labels.len());
        return Err(folder.bad_file(&path, reason));
    }
    let (offset, stride) = (pixels.start as u64, CIFAR.len() as u64);
    samples(folder, FixedRecords { path, offset, stride, shape: CIFAR }, &labels)
}

/// `imgs` with values 0 and 1, and `latents_classes`: colour, shape, scale, orientation, x, y. The authors define no
/// parts.
pub(super) fn dsprites(folder: &Folder, factor: SpriteFactor) -> Result<Pools, DataError> {
    let path = folder.base.join("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz");
    let bad = |reason| folder.bad_file(&path, reason);
    let records = NpzRecords::open(path.clone(), "imgs.npy", 255).map_err(bad)?;
    let factors = npz::integers(&path, "latents_classes.npy", [records.count(), 6]).map_err(bad)?;
    let column = match factor {
        SpriteFactor::Orientation => 3,
        SpriteFactor::XPosition => 4,
    };
    let (rows, _) = factors.as_chunks::<6>();
    let label = |(values, row): (&[i64; 6], usize)| {
        let value = values[column];
        let negative = |_| folder.bad_line(&path, row, format!("the factor {value} is negative"));
        Ok(i64::from(factor.label(usize::try_from(value).map_err(negative)?)))
    };
    let labels = rows.iter().zip(1..).map(label).collect::<Result<Vec<_>, DataError>>()?;
    Ok([samples(folder, records, &labels)?, Vec::new(), Vec::new()])
}

/// Left images (the first of each pair) and `info`: instance, elevation, azimuth (even numbers), lighting. VTAB splits
/// the testing part in half into val and test.
pub(super) fn small_norb(folder: &Folder, factor: NorbFactor) -> Result<Pools, DataError> {
    let train = norb_part(folder, "smallnorb-5x46789x9x18x6x2x96x96-training", factor)?;
    let test = norb_part(folder, "smallnorb-5x01235x9x18x6x2x96x96-testing", factor)?;
    let half = test.len() / 2;
    let (val, test) = parts::take(test, half, &folder.entry.name, "val");
    Ok([train, val, test])
}

fn norb_part(folder: &Folder, name: &str, factor: NorbFactor) -> Result<Vec<Sample>, DataError> {
    let path = folder.find(&format!("{name}-dat.mat"))?;
    let header = norb::header(&beginning(folder, &path)?).map_err(|reason| folder.bad_file(&path, reason))?;
    let (norb::Kind::Byte, &[count, 2, height, width]) = (header.kind, header.dims.as_slice()) else {
        return Err(
            folder.bad_file(&path, format!("its shape is {:?}, not that of image pairs", header.dims))
        );
    };
    let info = folder.find(&format!("{name}-info.mat"))?;
    let (dims, values) =
        norb::integers(&folder.bytes(&info)?).map_err(|reason| folder.bad_file(&info, reason))?;
    if dims != [count, 4] {
        return Err(folder.bad_file(
            &info,
            format!("its shape is {dims:?}; expected four values for each of {count} pairs"),
        ));
    }
    let (rows, _) = values.as_chunks::<4>();
    let label = |([_, elevation, azimuth, _], row): (&[i32; 4], usize)| match factor {
        NorbFactor::Elevation => Ok(i64::from(*elevation)),
        NorbFactor::Azimuth if azimuth % 2 == 0 => Ok(i64::from(azimuth / 2)),
        NorbFactor::Azimuth => Err(folder.bad_line(&info, row, format!("the azimuth {azimuth} is odd"))),
    };
    let labels = rows.iter().zip(1..).map(label).collect::<Result<Vec<_>, _>>()?;
    let shape = Shape { height, width, channels: 1, order: Order::Interleaved, scale: 1 }.checked();
    let records = shape.and_then(|shape| {
        let (offset, stride) = (header.offset as u64, 2 * shape.len() as u64);
        FixedRecords { path: path.clone(), offset, stride, shape }.checked(count)
    });
    samples(folder, records.map_err(|reason| folder.bad_file(&path, reason))?, &labels)
}

fn beginning(folder: &Folder, path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let read = files::open(path, u64::MAX).and_then(|file| file.take(64).read_to_end(&mut bytes));
    read.map_err(|error| folder.bad_file(path, error.to_string()))?;
    Ok(bytes)
}

/// Images in `x` of `<part>_x.h5`, and labels 0 or 1 in `y` of `<part>_y.h5`.
pub(super) fn patch_camelyon(folder: &Folder) -> Result<Pools, DataError> {
    let part = |part: &str| {
        let path = |what: &str| folder.find(&format!("camelyonpatch_level_2_split_{part}_{what}.h5"));
        let (images, labels) = (path("x")?, path("y")?);
        let values = hdf5::bytes(&labels, "y").map_err(|reason| folder.bad_file(&labels, reason))?;
        let opened = Hdf5Records::open(images.clone(), "x");
        let records = opened.map_err(|reason| folder.bad_file(&images, reason))?;
        if records.count() != values.len() {
            let reason = format!("{} labels for {} images", values.len(), records.count());
            return Err(folder.bad_file(&labels, reason));
        }
        samples(folder, records, &values.into_iter().map(i64::from).collect::<Vec<_>>())
    };
    Ok([part("train")?, part("valid")?, part("test")?])
}

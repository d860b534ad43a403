//! The formats in which authors distribute datasets.

use serde::{Deserialize, Serialize};

use crate::registry::synthetic_task::SpriteFactor;

/// The original distribution of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Its format.
    #[serde(flatten)]
    pub format: OriginalFormat,
    /// Number of images in each of the authors' parts.
    pub counts: PoolCounts,
    /// How its images or parts differ from those of the benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
}

/// Number of images in each of the authors' parts; all are in `train` if the authors defined no parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolCounts {
    /// Training images.
    pub train: usize,
    /// Validation images.
    #[serde(default)]
    pub val: usize,
    /// Test images.
    #[serde(default)]
    pub test: usize,
}

/// The formats that authors distribute, each with the extra information needed to read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum OriginalFormat {
    /// CIFAR-100, the binary or the Python version.
    Cifar,
    /// One folder per class, without predefined parts.
    ClassFolders {
        /// The folder that holds them, as named in the archive.
        folder: String,
    },
    /// Describable Textures: `labels/{train,val,test}1.txt`.
    Dtd,
    /// SUN397: `ClassName.txt`, and the lists of TensorFlow Datasets, `sun397_tfds_{tr,va,te}.txt`.
    Sun397,
    /// SVHN, cropped digits: `{train,test}_32x32.mat`.
    Svhn,
    /// Oxford 102 Flowers: `imagelabels.mat`, `setid.mat`.
    Flowers,
    /// Oxford-IIIT Pet: `annotations/{trainval,test}.txt`.
    Pets,
    /// PatchCamelyon: `camelyonpatch_level_2_split_*_{x,y}.h5`.
    PatchCamelyon,
    /// Diabetic Retinopathy Detection: `trainLabels.csv`, `retinopathy_solution.csv`.
    Retinopathy,
    /// CLEVR 1.0: `scenes/CLEVR_{train,val}_scenes.json`.
    Clevr {
        /// The label to derive from a scene.
        question: ClevrQuestion,
    },
    /// DMLab: `dmlab-{train,validation,test}.tfrecord*`.
    Dmlab,
    /// KITTI 2D objects: `training/label_2/*.txt`, and `mapping/` of the development kit, by which drives are kept
    /// together; the label is VTAB's, the distance of the closest vehicle.
    Kitti,
    /// dSprites: one `.npz`.
    Dsprites {
        /// The factor to predict.
        factor: SpriteFactor,
    },
    /// Small NORB: `smallnorb-*-{dat,cat,info}.mat`.
    SmallNorb {
        /// The factor to predict.
        factor: NorbFactor,
    },
    /// CUB-200-2011: `images.txt`, `image_class_labels.txt`, `train_test_split.txt`.
    Cub,
    /// NABirds: the same files, with other image names and sparse class ids.
    Nabirds,
    /// Stanford Dogs: `train_list.mat`, `test_list.mat`.
    StanfordDogs,
    /// Stanford Cars: `cars_train_annos.mat`, `cars_test_annos_withlabels.mat`.
    StanfordCars,
}

/// VTAB's task for a CLEVR scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClevrQuestion {
    /// The number of objects, 3 to 10.
    Count,
    /// The depth of the closest object, in six bins.
    Distance,
}

/// VTAB's task for a Small NORB image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NorbFactor {
    /// One of 18 directions.
    Azimuth,
    /// One of 9 camera elevations.
    Elevation,
}

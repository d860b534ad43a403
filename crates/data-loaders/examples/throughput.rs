//! Measures batch throughput on Stanford Cars: `throughput <root> <images> <threads>`, called by tools/throughput.py,
//! which compares it with torchvision. Prints the number of images, the seconds from the start to the last batch, and a
//! sum that keeps the compiler from optimising anything away.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use data_loaders::{
    BatchStep, Filter, ImageProtocol, ImageSet, Loader, LoaderRecipe, Normalisation, Resize, Split, dataset,
};

const BATCH: usize = 64;
const PROTOCOL: ImageProtocol = ImageProtocol {
    image_size: 224,
    resize: Resize::Plain,
    filter: Filter::Bilinear,
    normalisation: Normalisation::Imagenet,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next =
        |name: &str| arguments.next().ok_or_else(|| format!("give <root> <images> <threads>: no {name}"));
    let root = PathBuf::from(next("root")?);
    let (images, threads) = (next("images")?.parse()?, next("threads")?.parse()?);
    let set = Arc::new(ImageSet::open(dataset("stanford_cars")?, &root)?);
    let recipe = LoaderRecipe { split: Split::TrainVal, protocol: PROTOCOL, augmentation: None, threads };
    let indices: Vec<usize> = (0..set.len(Split::TrainVal).min(images)).collect();
    let steps: Vec<BatchStep> = (0..)
        .zip(indices.chunks(BATCH))
        .map(|(step, indices)| BatchStep::single(0, step, 0, indices.to_vec()))
        .collect();
    let start = Instant::now();
    let (mut read, mut sum) = (0, 0.0);
    let mut loader = Loader::start(set, recipe, steps.into_iter())?;
    while let Some(batch) = loader.next().transpose()? {
        read += batch.labels.len();
        sum += f64::from(batch.pixels[0]);
        loader.reuse(batch);
    }
    println!("{read} {} {sum}", start.elapsed().as_secs_f64());
    Ok(())
}

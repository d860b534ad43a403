//! The inputs of a classifier for one split: images, or the features that a frozen backbone computes from them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use backbones::vision::Classifier;
use data_loaders::{ImageProtocol, ImageSet, Split};
use tch::{Device, Kind, Tensor, no_grad};

use crate::resources::{FeatureCache, Features};
use crate::tasks::Run;
use crate::train::signals::StopFlag;

/// Images per forward pass when features are computed: few, so that it stops soon after a signal.
const FEATURE_BATCH: usize = 64;

/// The inputs of one split: images, or features if nothing before the head is trained.
pub(super) struct Inputs {
    pub(super) set: Arc<ImageSet>,
    pub(super) split: Split,
    pub(super) protocol: ImageProtocol,
    pub(super) device: Device,
    pub(super) features: Option<Tensor>,
    pub(super) data_wait: Duration,
}

impl Inputs {
    pub(super) fn new(set: Arc<ImageSet>, split: Split, protocol: ImageProtocol, device: Device) -> Self {
        Self { set, split, protocol, device, features: None, data_wait: Duration::ZERO }
    }

    pub(super) fn labels(&self) -> &[u32] {
        self.set.labels(self.split)
    }

    /// Share of the labels that are predicted correctly.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn accuracy(&self, predictions: &[i64]) -> f64 {
        let pairs = self.labels().iter().zip(predictions);
        let right = pairs.filter(|(label, predicted)| i64::from(**label) == **predicted).count();
        right as f64 / predictions.len() as f64
    }

    pub(super) fn len(&self) -> usize {
        self.set.len(self.split)
    }

    /// Images `[n, 3, size, size]`, or features `[n, features]`, and labels `[n]`.
    pub(super) fn batch(&mut self, indices: &[usize]) -> Result<(Tensor, Tensor)> {
        let all = self.labels();
        let labels: Vec<i64> = indices.iter().map(|&index| i64::from(all[index])).collect();
        let labels = Tensor::from_slice(&labels).f_to_device(self.device)?;
        let inputs = match &self.features {
            Some(features) => {
                let rows: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
                features.f_index_select(0, &Tensor::from_slice(&rows).f_to_device(self.device)?)?
            }
            None => self.images(indices)?,
        };
        Ok((inputs, labels))
    }

    pub(super) fn images(&mut self, indices: &[usize]) -> Result<Tensor> {
        let start = Instant::now();
        let size = i64::from(self.protocol.image_size);
        let mut pixels = Vec::new();
        self.set.read(self.split, indices, &self.protocol, &mut pixels)?;
        let images = Tensor::from_slice(&pixels).f_view([-1, 3, size, size])?.f_to_device(self.device)?;
        self.data_wait += start.elapsed();
        Ok(images)
    }

    /// Replaces the images by the head's input features, computed once for all runs that share them; returns the time
    /// of the original computation.
    pub(super) fn become_features(
        &mut self,
        run: &Run,
        features: &mut FeatureCache,
        model: &Classifier,
        stop: &StopFlag,
    ) -> Result<Duration> {
        let key =
            format!("{} {} {:?} {:?}", run.data_checksum, run.weights_checksum, self.split, self.protocol);
        if let Some(known) = features.get(&key) {
            self.features = Some(known.tensor.shallow_clone());
            self.data_wait += known.data_wait;
            return Ok(known.computing);
        }
        let indices: Vec<usize> = (0..self.len()).collect();
        let mut parts = Vec::new();
        let start = Instant::now();
        for batch in indices.chunks(FEATURE_BATCH) {
            stop.check()?;
            let images = self.images(batch)?;
            parts.push(no_grad(|| model.features(&images)));
        }
        let tensor = Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::Float)?;
        self.features = Some(tensor.shallow_clone());
        let computing = start.elapsed().saturating_sub(self.data_wait);
        features.insert(key, Features { tensor, computing, data_wait: self.data_wait });
        Ok(computing)
    }

    pub(super) fn logits(&self, model: &Classifier, inputs: &Tensor) -> Tensor {
        if self.features.is_some() { model.head(inputs) } else { model.forward(inputs) }
    }
}

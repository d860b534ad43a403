//! A batch of captioned images, a model's logits on it, and its accuracy on the questions.

use std::collections::BTreeMap;

use anyhow::Result;
use backbones::vlm::llava::Llava;
use data_loaders::text::{MASKED, PaddedBatch, PaddingSide, Truncation};
use data_loaders::vl::{Picture, PictureProtocol, Square};
use data_loaders::{Caption, CaptionStream};
use data_loaders::{Filter, Normalisation};
use tch::{Device, Kind, Reduction, Tensor};

use crate::models::picture_text::PictureText;

/// Longer than any caption, in tokens.
const CUTOFF: usize = 256;

/// Captioned images.
pub(super) struct CaptionBatch {
    /// Normalised channel planes of the images.
    pixels: Vec<f32>,
    size: i64,
    captions: PaddedBatch,
    /// The first two words of each caption's question, if it has one.
    kinds: Vec<Option<String>>,
}

impl CaptionBatch {
    /// Generates the captions `first..first + count` of a stream, with images `size` pixels wide.
    pub(super) fn draw(
        stream: CaptionStream,
        first: u64,
        count: usize,
        size: u32,
        texts: &PictureText<'_>,
    ) -> Result<Self> {
        let protocol = PictureProtocol {
            image_size: size,
            square: Square::Stretch,
            filter: Filter::Bilinear,
            normalisation: Normalisation::Half,
        };
        let drawn: Vec<Caption> =
            (first..first + count as u64).map(|index| stream.caption(index, size)).collect();
        let pictures: Vec<&Picture> = drawn.iter().map(|one| &one.picture).collect();
        let example =
            |one: &Caption| texts.rendered_example(&one.rendered(), CUTOFF, &mut Truncation::default());
        let examples = drawn.iter().map(example).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            pixels: protocol.read("captions", &pictures)?,
            size: size.into(),
            captions: PaddedBatch::new(&examples, 0, PaddingSide::Right),
            kinds: drawn.iter().map(kind).collect(),
        })
    }

    /// Runs a model on the batch.
    pub(super) fn read(&self, model: &Llava, device: Device) -> Result<Prediction<'_>> {
        let Self { pixels, size, captions, kinds } = self;
        let pixels = Tensor::f_from_slice(pixels)?.f_view([-1, 3, *size, *size])?.f_to_device(device)?;
        let table = |values: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_view([-1, captions.columns as i64])?.f_to_device(device)?)
        };
        let length = captions.columns as i64 - 1;
        let features = model.encode_images(&pixels);
        let logits =
            model.forward(&table(&captions.tokens)?, Some(&features), None)?.f_narrow(1, 0, length)?;
        Ok(Prediction { logits, labels: table(&captions.labels)?.f_narrow(1, 1, length)?, kinds })
    }
}

/// The first two words of a caption's question: "How many".
fn kind(caption: &Caption) -> Option<String> {
    let question = caption.question.as_deref()?;
    Some(question.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

/// A model's output on captions.
pub(super) struct Prediction<'a> {
    /// Logits of the next token, `[captions, tokens, vocabulary]`.
    logits: Tensor,
    /// That token, or [`MASKED`] if it is not trained on; `[captions, tokens]`.
    labels: Tensor,
    kinds: &'a [Option<String>],
}

impl Prediction<'_> {
    /// The mean over captions of the mean over tokens: a one-word answer counts as much as four remarks.
    pub(super) fn loss(&self) -> Result<Tensor> {
        let (logits, labels) = (self.logits.f_flatten(0, 1)?, self.labels.f_flatten(0, 1)?);
        let losses = logits.f_cross_entropy_loss(&labels, None::<Tensor>, Reduction::None, MASKED, 0.0)?;
        let losses = losses.f_view(self.labels.size().as_slice())?;
        let counts = self.labels.f_ne(MASKED)?.f_sum_dim_intlist(1, false, Kind::Float)?;
        Ok((losses.f_sum_dim_intlist(1, false, Kind::Float)? / counts).f_mean(Kind::Float)?)
    }

    /// The share of answers whose every token is the most likely one, by kind of question.
    pub(super) fn answered(&self) -> Result<BTreeMap<String, f64>> {
        let right = self.logits.f_argmax(-1, false)?.f_eq_tensor(&self.labels)?;
        let right = right.f_logical_or(&self.labels.f_eq(MASKED)?)?.f_all_dim(1, false)?;
        let right = Vec::<bool>::try_from(right.f_to_device(Device::Cpu)?)?;
        let mut tally: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for (kind, right) in self.kinds.iter().zip(right) {
            let Some(kind) = kind else { continue };
            let (rights, all) = tally.entry(kind.clone()).or_default();
            *rights += u32::from(right);
            *all += 1;
        }
        Ok(tally.into_iter().map(|(kind, (right, all))| (kind, f64::from(right) / f64::from(all))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two captions over a vocabulary of two: one token of the first is trained on, and both of the second.
    fn prediction(kinds: &[Option<String>]) -> Prediction<'_> {
        let logits = Tensor::from_slice(&[0_f32, 9.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0]).view([2, 2, 2]);
        Prediction { logits, labels: Tensor::from_slice(&[MASKED, 0, 1, 0]).view([2, 2]), kinds }
    }

    #[test]
    fn a_caption_of_one_token_counts_as_much_as_one_of_two() {
        let loss = f64::try_from(prediction(&[None, None]).loss().unwrap()).unwrap();
        let behind = |ahead: f64| (1.0 + (-ahead).exp()).ln();
        let expected = f64::midpoint(behind(2.0), f64::midpoint(2_f64.ln(), behind(-3.0)));
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn an_answer_is_right_with_all_its_tokens() {
        let kinds = [Some("How many".into()), Some("Is there".into())];
        let expected = [("How many".to_owned(), 1.0), ("Is there".to_owned(), 0.0)];
        assert_eq!(prediction(&kinds).answered().unwrap(), expected.into());
        assert!(prediction(&[None, None]).answered().unwrap().is_empty());
    }
}

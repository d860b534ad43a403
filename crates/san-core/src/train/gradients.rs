//! Gradients of trained tensors, for parts of a model that are differentiated one after the other: summed, or used as
//! they come.

use tch::Tensor;

use crate::{Error, Trainables};

/// What is done with gradients as backward passes compute them.
pub trait GradientSink {
    /// Takes the gradient of a trained tensor, given by its position in the buffer. If several parts of a model depend on
    /// the tensor, each contributes a gradient, and theirs is the sum.
    ///
    /// # Errors
    /// If libtorch fails.
    fn take(&mut self, position: usize, gradient: Tensor) -> Result<(), Error>;
}

/// Passes the gradient of a scalar to `sink`, tensor by tensor; returns the gradient with respect to `input`, which must
/// be a leaf.
///
/// # Errors
/// If libtorch cannot differentiate; errors of the sink.
pub fn differentiate(
    trainables: &Trainables,
    scalar: &Tensor,
    input: Option<&Tensor>,
    sink: &mut dyn GradientSink,
) -> Result<Option<Tensor>, Error> {
    let inputs: Vec<&Tensor> = trainables.iter().map(|(_, leaf)| leaf).chain(input).collect();
    let mut gradients = Tensor::f_run_backward(&[scalar], &inputs, false, false)?;
    let of_input = input.and_then(|_| gradients.pop());
    for (position, gradient) in gradients.into_iter().enumerate() {
        if gradient.defined() {
            sink.take(position, gradient)?;
        }
    }
    Ok(of_input.filter(Tensor::defined))
}

/// Passes a gradient `[K, P]` to `sink`, tensor by tensor.
///
/// # Errors
/// If it has another shape; errors of the sink.
pub fn split(trainables: &Trainables, gradient: &Tensor, sink: &mut dyn GradientSink) -> Result<(), Error> {
    let mut start = 0;
    for (position, (spec, leaf)) in trainables.iter().enumerate() {
        let columns = gradient.f_narrow(1, start, spec.count())?;
        sink.take(position, columns.f_reshape(leaf.size())?)?;
        start += spec.count();
    }
    Ok(())
}

/// A gradient accumulated over parts of a model, or over micro-batches.
#[derive(Debug)]
pub struct GradientSum<'a> {
    trainables: &'a Trainables,
    /// One per trained tensor; `None` until something depends on it.
    sums: Vec<Option<Tensor>>,
}

impl<'a> GradientSum<'a> {
    /// A zero gradient.
    pub fn new(trainables: &'a Trainables) -> Self {
        Self { trainables, sums: trainables.iter().map(|_| None).collect() }
    }

    /// The gradients that are not zero so far.
    pub fn gradients(&self) -> impl Iterator<Item = &Tensor> {
        self.sums.iter().flatten()
    }

    /// The gradients in the order of the buffer, each freed when the next one is asked for.
    pub fn into_gradients(self) -> impl Iterator<Item = Result<Tensor, Error>> + 'a {
        let or_zeros =
            |(sum, leaf): (Option<Tensor>, &Tensor)| Ok(sum.map_or_else(|| leaf.f_zeros_like(), Ok)?);
        self.sums.into_iter().zip(self.trainables.iter().map(|(_, leaf)| leaf)).map(or_zeros)
    }

    /// The sum, `[K, P]`.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn finish(self) -> Result<Tensor, Error> {
        let stack = self.trainables.stack();
        let flat = self.into_gradients().map(|gradient| Ok(gradient?.f_reshape([stack, -1])?));
        Ok(Tensor::f_cat(&flat.collect::<Result<Vec<_>, Error>>()?, 1)?)
    }
}

impl GradientSink for GradientSum<'_> {
    fn take(&mut self, position: usize, gradient: Tensor) -> Result<(), Error> {
        let sum = &mut self.sums[position];
        *sum = Some(match sum.take() {
            Some(before) => before.f_add(&gradient)?,
            None => gradient,
        });
        Ok(())
    }
}

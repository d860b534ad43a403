//! Residual branches and token sequences, where bottlenecks and prompts are attached and where stochastic depth
//! drops branches during training.

use std::cell::Cell;
use std::rc::Rc;

use rand_distr::{Distribution, Uniform};
use tch::Tensor;

use crate::nn::pass::Pass;

/// What a method adds after or in parallel to a residual branch.
pub trait Bottleneck: std::fmt::Debug {
    /// The adapted branch, `[K * batch, ..., width]`: `x` is the branch's input, `y` its output.
    fn adapt(&self, x: &Tensor, y: Tensor) -> Tensor;
}

/// A residual connection x + f(x).
#[derive(Debug)]
pub struct Branch {
    name: String,
    depth: f64,
    bottleneck: Option<Rc<dyn Bottleneck>>,
    stochastic_depth: Rc<StochasticDepth>,
}

impl Branch {
    /// `depth` is the branch's relative depth, from 0 for the first block to 1 for the last.
    pub fn new(
        name: String,
        depth: f64,
        bottleneck: Option<Rc<dyn Bottleneck>>,
        stochastic_depth: Rc<StochasticDepth>,
    ) -> Self {
        Self { name, depth, bottleneck, stochastic_depth }
    }

    /// x + f(x), where `y` is f(x).
    pub fn add(&self, x: &Tensor, y: Tensor) -> Tensor {
        let y = match &self.bottleneck {
            Some(bottleneck) => bottleneck.adapt(x, y),
            None => y,
        };
        match self.stochastic_depth.mask(&self.name, self.depth, x.size()[0]) {
            Some(mask) => {
                let mut shape = vec![1; x.dim()];
                shape[0] = x.size()[0];
                x + y * mask.to_device(x.device()).to_kind(x.kind()).view(shape.as_slice())
            }
            None => x + y,
        }
    }
}

/// Stochastic depth (arXiv 1603.09382): during training a branch is dropped per sample with a probability that
/// grows linearly with depth, and rescaled where it is kept (timm's `drop_path`).
#[derive(Debug, Default)]
pub struct StochasticDepth {
    rate: Cell<f64>,
    pass: Rc<Pass>,
}

impl StochasticDepth {
    /// Drops nothing until a rate is set.
    pub fn new(pass: Rc<Pass>) -> Self {
        Self { rate: Cell::new(0.0), pass }
    }

    /// Sets the drop probability of the last block's branches, below 1.
    pub fn set_rate(&self, rate: f64) {
        self.rate.set(rate);
    }

    /// 0 or 1 / (1 - rate) for each sample.
    fn mask(&self, branch: &str, depth: f64, samples: i64) -> Option<Tensor> {
        let rate = self.rate.get() * depth;
        if rate <= 0.0 {
            return None;
        }
        let generators = self.pass.generators(branch)?;
        let Ok(uniform) = Uniform::new(0.0, 1.0) else { unreachable!("the interval is not empty") };
        let per_run = samples / generators.len().max(1) as i64;
        let mut mask = Vec::new();
        for mut generator in generators {
            let keep = |_| if uniform.sample(&mut generator) < rate { 0.0 } else { 1.0 / (1.0 - rate) };
            mask.extend((0..per_run).map(keep));
        }
        Some(Tensor::from_slice::<f64>(&mask))
    }
}

/// Prompts `[K, prompts, width]` inserted into a token sequence before a block, replacing the prompts of
/// earlier blocks.
#[derive(Debug)]
pub struct Prompts(pub Tensor);

impl Prompts {
    /// Keeps the first `kept` of the tokens `[K * batch, tokens, width]` and appends the prompts.
    pub fn join(&self, tokens: &Tensor, kept: i64) -> Tensor {
        let [batch, _, width] = tokens.size()[..] else { unreachable!("tokens have three dimensions") };
        let [stack, prompts, _] = self.0.size()[..] else { unreachable!("prompts have three dimensions") };
        let repeated = self.0.unsqueeze(1).expand([stack, batch / stack, prompts, width], false);
        Tensor::cat(
            &[tokens.narrow(1, 0, kept), repeated.reshape([batch, prompts, width]).to_kind(tokens.kind())],
            1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_depends_only_on_seed_and_step_and_preserves_the_mean() {
        let pass = Rc::new(Pass::new(vec![3, 4]));
        let depth = StochasticDepth::new(pass.clone());
        let mask = |step, samples| pass.training(step, || depth.mask("b", 1.0, samples));
        assert!(mask(7, 8).is_none());
        depth.set_rate(0.25);
        assert!(depth.mask("b", 1.0, 8).is_none());
        let first = mask(7, 4000).unwrap();
        assert_ne!(first, mask(8, 4000).unwrap());
        assert_eq!(first, mask(7, 4000).unwrap());
        let run = first.narrow(0, 2000, 2000);
        assert_ne!(first.narrow(0, 0, 2000), run);
        assert!((first.mean(None).double_value(&[]) - 1.0).abs() < 0.05);
        assert!(pass.training(7, || depth.mask("b", 0.0, 8)).is_none());
    }
}

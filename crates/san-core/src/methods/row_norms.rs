//! Norms of the rows of projections before and after a low-rank update, without a matrix of W's size (docs/method.md,
//! section 3).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::{Kind, Tensor, no_grad};

use crate::methods::low_rank::LowRank;
use crate::nn::parameter::product;
use crate::spec::model::SiteSpec;
use crate::{Error, Weights};

/// Row norms of one projection.
#[derive(Debug)]
pub(super) struct RowNorms {
    weight: Tensor,
    /// ||W_i||^2, `[outputs]`.
    squared: Tensor,
    update: Rc<LowRank>,
}

impl RowNorms {
    /// Row norms for a site's frozen weight.
    ///
    /// # Errors
    /// If the weight is missing.
    pub(super) fn new(site: &SiteSpec, weights: &Weights, update: Rc<LowRank>) -> Result<Self, Error> {
        let weight = weights.get(&format!("{}.weight", site.name))?.f_flatten(1, -1)?;
        // Accumulated in f32 (or wider) whatever the weight's dtype.
        let kind = if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let norms = weight.f_norm_scalaropt_dim_dtype(2, [1].as_slice(), false, kind)?;
        let squared = norms.f_square()?;
        Ok(Self { weight, squared, update })
    }

    /// W x.
    pub(super) fn product(&self, x: &Tensor) -> Tensor {
        product(x, &self.weight)
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> i64 {
        self.weight.size()[0]
    }

    /// ||W_i||, `[outputs]`.
    pub(super) fn before(&self) -> Tensor {
        self.squared.sqrt()
    }

    /// ||(W + B A)_i||, `[K, outputs]`.
    pub(super) fn after(&self) -> Tensor {
        let (a, b) = (self.update.all_a(), self.update.all_b());
        norms_after(&self.squared, &product(&a, &self.weight), &a, &b)
    }
}

/// ||(W + B A)_i||, `[..., outputs]`: ||W_i||^2 + 2 B_i (W A^T)_i + B_i G B_i^T with the Gram matrix G = A A^T, for A
/// `[..., rank, inputs]` and B `[..., outputs, rank]`; `frozen` is A W^T.
fn norms_after(squared: &Tensor, frozen: &Tensor, a: &Tensor, b: &Tensor) -> Tensor {
    let cross = frozen.transpose(-2, -1) * 2.0 + b.matmul(&a.matmul(&a.transpose(-2, -1)));
    let change = (b * cross).sum_dim_intlist([-1].as_slice(), false, None);
    (squared + change).clamp_min(0.0).sqrt()
}

/// Row norms of several projections after their updates, outside autograd: all are computed when one is asked for, and kept
/// until the trained tensors change.
#[derive(Debug)]
pub(super) struct DetachedNorms {
    sites: Vec<Rc<RowNorms>>,
    /// Positions of sites of one shape, which are computed together, and their squared norms `[sites, 1, outputs]`.
    groups: Vec<(Vec<usize>, Tensor)>,
    /// The buffer of the trained tensors.
    values: Tensor,
    kept: RefCell<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// The version of the trained tensors.
    version: u32,
    /// By site, `[K, outputs]`.
    norms: Vec<Tensor>,
}

impl DetachedNorms {
    /// Row norms of `sites`, whose updates are in the buffer `values`.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub(super) fn new(sites: Vec<Rc<RowNorms>>, values: &Tensor) -> Result<Self, Error> {
        let mut by_shape: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (position, site) in sites.iter().enumerate() {
            by_shape.entry((site.weight.size(), site.update.all_a().size())).or_default().push(position);
        }
        let with_squares = |positions: Vec<usize>| {
            let squared: Vec<_> = positions.iter().map(|&position| &sites[position].squared).collect();
            let squared = Tensor::f_stack(&squared, 0)?.f_unsqueeze(1)?;
            Ok((positions, squared))
        };
        let groups = by_shape.into_values().map(with_squares).collect::<Result<_, Error>>()?;
        Ok(Self { sites, groups, values: values.shallow_clone(), kept: RefCell::default() })
    }

    /// [`RowNorms::after`] of the site at this position.
    pub(super) fn after(&self, position: usize) -> Tensor {
        let version = torch_ops::version(&self.values);
        let mut kept = self.kept.borrow_mut();
        let current = match kept.take() {
            Some(current) if current.version == version => current,
            _ => Kept { version, norms: no_grad(|| self.all_after()) },
        };
        kept.insert(current).norms[position].shallow_clone()
    }

    fn all_after(&self) -> Vec<Tensor> {
        let mut norms: BTreeMap<usize, Tensor> = BTreeMap::new();
        for (positions, squared) in &self.groups {
            let sites = || positions.iter().map(|&position| &self.sites[position]);
            let a = Tensor::stack(&sites().map(|site| site.update.all_a()).collect::<Vec<_>>(), 0);
            let b = Tensor::stack(&sites().map(|site| site.update.all_b()).collect::<Vec<_>>(), 0);
            let frozen: Vec<_> = sites()
                .zip(a.to_kind(sites().next().map_or(a.kind(), |site| site.weight.kind())).unbind(0))
                .map(|(site, a)| product(&a, &site.weight))
                .collect();
            let frozen = Tensor::stack(&frozen, 0).to_kind(a.kind());
            norms.extend(positions.iter().copied().zip(norms_after(squared, &frozen, &a, &b).unbind(0)));
        }
        norms.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::methods::low_rank::Block;
    use crate::nn::dropout::Dropout;
    use crate::nn::pass::Pass;
    use crate::spec::model::Role;

    /// Three sites of two shapes for two runs: the norms are those of W + B A, also after the factors have changed.
    #[test]
    fn detached_norms_follow_the_trained_tensors() {
        tch::manual_seed(3);
        let options = (Kind::Double, Device::Cpu);
        let shapes = [(4, 6), (5, 6), (4, 6)];
        let count: i64 = shapes.iter().map(|(outputs, inputs)| 2 * (outputs + inputs)).sum();
        let values = Tensor::randn([2, count], options);
        let (mut sites, mut matrices, mut start) = (Vec::new(), Vec::new(), 0);
        for (index, (outputs, inputs)) in shapes.into_iter().enumerate() {
            let mut next = |rows: i64, columns: i64| {
                start += rows * columns;
                values.narrow(1, start - rows * columns, rows * columns).view([2, rows, columns])
            };
            let (a, b) = (next(2, inputs), next(outputs, 2));
            let site = SiteSpec::linear(format!("site{index}"), Role::Up, inputs, outputs);
            let weight = Tensor::randn([outputs, inputs], options);
            let weights =
                Weights::new([(format!("site{index}.weight"), weight.copy())].into_iter().collect());
            let block = Block { a: a.shallow_clone(), b: b.shallow_clone(), start: 0 };
            let dropout = Dropout::new(site.name.clone(), 0.0, Rc::new(Pass::new(vec![0, 1])));
            let update = Rc::new(LowRank::new(vec![block], 0.5, outputs, dropout));
            sites.push(Rc::new(RowNorms::new(&site, &weights, update).unwrap()));
            matrices.push((weight, a, b));
        }
        let norms = DetachedNorms::new(sites, &values).unwrap();
        for _ in 0..2 {
            for (position, (weight, a, b)) in matrices.iter().enumerate() {
                let changed = weight + b.matmul(a) * 0.5;
                let expected = changed.norm_scalaropt_dim(2, [2].as_slice(), false);
                let difference = (norms.after(position) - expected).abs().max();
                assert!(f64::try_from(difference).unwrap() < 1e-12, "{position}");
            }
            let _ = values.shallow_clone().normal_(0.0, 2.0);
        }
    }
}

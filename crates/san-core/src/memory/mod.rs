//! The memory of a training step, computed from shapes alone, so that a plan can say what a run needs before anything is
//! allocated.
//!
//! A [`tape::Tape`] does what libtorch's autograd does, on sizes instead of tensors: activations are freed when nothing
//! holds them, an operation keeps what its gradient needs, and a backward pass allocates and frees in the same order.
//! [`layers::Layers`] has the counterparts of `nn`: what a site keeps follows from what a method does there
//! ([`crate::spec::effects`]) and from which tensors are trained. A model describes its forward pass in terms of them.
//! `backbones/tests/step_memory.rs` compares the result with what libtorch's allocator measures.

pub mod layers;
mod sites;
pub mod tape;

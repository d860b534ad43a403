// AdamW on tensors in bf16.

#pragma once

#include <ATen/Context.h>

#include "common.h"

namespace {

// Elements of a trained tensor that an update converts to f32 at a time: 32 MiB for each intermediate result.
constexpr int64_t CHUNK = int64_t{1} << 23;

// A generator of its own for the device, so that the result is a function of the seed alone.
at::Generator seeded(const at::Device &device, uint64_t seed) {
  auto generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

// An f32 tensor rounded to a neighbour in bf16, up with the probability that makes the expected value exact. bf16 is the
// upper half of f32: 16 random bits, added to the lower half, carry with that probability.
Tensor rounded_stochastically(const Tensor &x, const Tensor &bits) {
  return x.view(at::kInt).add(bits).bitwise_and_(-65536).view(at::kFloat);
}

// A step of AdamW on tensors in bf16; see `compensated_adamw` in lib.rs.
struct CompensatedAdamW {
  double beta1, beta2, weight_decay, epsilon;
  double step;
  Tensor rate, skipped;
  OptionalTensor factor;

  void store(const Tensor &target, const Tensor &x) const {
    target.copy_(at::where(skipped, target, x.to(target.scalar_type())));
  }

  void update(const Tensor &values, const Tensor &compensation, const Tensor &gradient, const Tensor &first,
              const Tensor &second, uint64_t seed) const {
    auto g = gradient.to(at::kFloat);
    if (factor) g = g.mul(*factor);
    auto m = first.to(at::kFloat).lerp_(g, 1 - beta1);
    auto v = second.to(at::kFloat).mul_(beta2).addcmul_(g, g, 1 - beta2);
    const auto bits =
        at::empty(g.sizes(), g.options().dtype(at::kInt)).random_(seeded(g.device(), seed));
    // 31 bits are random: the first moment has 15 of its own; the compensation shares those of the second moment.
    const auto low_bits = bits.bitwise_and(0xffff);
    store(second, rounded_stochastically(v, low_bits));
    store(first, rounded_stochastically(m, bits.bitwise_right_shift(15).bitwise_and_(0xfffe)));
    auto x = values.to(at::kFloat).add_(compensation);
    if (weight_decay != 0) x.mul_(1 - rate * weight_decay);
    const auto denominator = v.sqrt_().div_(std::sqrt(1 - std::pow(beta2, step))).add_(epsilon);
    x.sub_(m.div_(denominator).mul_(rate / (1 - std::pow(beta1, step))));
    const auto rounded = x.to(values.scalar_type());
    store(compensation, rounded_stochastically(x.sub_(rounded), low_bits));
    store(values, rounded);
  }
};

}  // namespace

// What tch does not offer of libtorch, behind C functions. Every function returns null, or a message that the caller frees
// with torch_ops_free.

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "attention.h"
#include "common.h"
#include "compensated_adamw.h"
#include "operations.h"
#include "peak.h"
#include "products.h"

namespace {

template <class Work> char *guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  }
}

OptionalTensor optional(const Tensor *tensor) { return tensor ? OptionalTensor(*tensor) : std::nullopt; }

}  // namespace

extern "C" {

void torch_ops_free(char *message) { free(message); }

uint32_t torch_ops_version(const Tensor *tensor) { return static_cast<uint32_t>(tensor->_version()); }

char *torch_ops_linear(Tensor **y, const Tensor *x, const Tensor *weight, const Tensor *bias) {
  return guarded([&] { *y = new Tensor(Linear::apply(*x, *weight, optional(bias))); });
}

char *torch_ops_adapted_linear(Tensor **y, const Tensor *x, const Tensor *weight, const Tensor *bias, const Tensor *p,
                               const Tensor *scale, const Tensor *shift, const Tensor *a, const Tensor *b) {
  return guarded([&] {
    *y = new Tensor(AdaptedLinear::apply(*x, *weight, optional(bias), optional(p), optional(scale), optional(shift),
                                         optional(a), optional(b)));
  });
}

int64_t torch_ops_short_attention_lanes(int64_t tokens, int64_t head_size) { return lanes_of_head(tokens, head_size); }

char *torch_ops_short_attention(Tensor **y, const Tensor *qkv, int64_t heads, int64_t queries) {
  return guarded([&] { *y = new Tensor(ShortAttention::apply(*qkv, heads, queries)); });
}

char *torch_ops_adamw(const Tensor *values, const Tensor *gradient, const Tensor *first, const Tensor *second,
                      const Tensor *step, const Tensor *rate, double beta1, double beta2, double weight_decay,
                      double epsilon, const Tensor *skipped) {
  return guarded([&] {
    at::NoGradGuard guard;
    at::_fused_adamw_({*values}, {*gradient}, {*first}, {*second}, {}, {*step}, *rate, beta1, beta2, weight_decay,
                      epsilon, false, false, std::nullopt, *skipped);
    // The kernel does not count its change.
    values->unsafeGetTensorImpl()->bump_version();
  });
}

char *torch_ops_compensated_adamw(const Tensor *values, const Tensor *compensation, const Tensor *gradient,
                                  const Tensor *first, const Tensor *second, const Tensor *rate, const Tensor *skipped,
                                  const Tensor *factor, double step, double beta1, double beta2, double weight_decay,
                                  double epsilon, uint64_t seed) {
  return guarded([&] {
    at::NoGradGuard guard;
    const CompensatedAdamW adamw{beta1, beta2, weight_decay, epsilon, step, *rate, *skipped, optional(factor)};
    const auto flat = [](const Tensor *tensor) { return tensor->view({-1}); };
    const auto gradients = gradient->reshape({-1});
    for (int64_t start = 0; start < gradients.numel(); start += CHUNK) {
      const auto length = std::min(CHUNK, gradients.numel() - start);
      const auto part = [&](const Tensor &tensor) { return tensor.narrow(0, start, length); };
      adamw.update(part(flat(values)), part(flat(compensation)), part(gradients), part(flat(first)),
                   part(flat(second)), seed + static_cast<uint64_t>(start / CHUNK));
    }
  });
}

char *torch_ops_squared_norm(Tensor **sum, const Tensor *x) {
  return guarded([&] {
    at::NoGradGuard guard;
    const auto flat = x->reshape({-1});
    auto total = at::zeros({}, x->options().dtype(at::kFloat));
    for (int64_t start = 0; start < flat.numel(); start += CHUNK) {
      const auto part = flat.narrow(0, start, std::min(CHUNK, flat.numel() - start)).to(at::kFloat);
      total.add_(part.square().sum());
    }
    *sum = new Tensor(total);
  });
}

bool torch_ops_is_amd_with_avx512() { return is_amd_with_avx512(); }

void torch_ops_allow_tf32(bool allow) {
  at::globalContext().setAllowTF32CuBLAS(allow);
  at::globalContext().setAllowTF32CuDNN(allow);
}

char *torch_ops_reset_peak_memory(int device) {
  return guarded([&] { c10::getDeviceAllocator(c10::kCUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

char *torch_ops_peak_memory(int device, int64_t *bytes) {
  return guarded([&] {
    const auto stats = c10::getDeviceAllocator(c10::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    *bytes = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  });
}

uint64_t torch_ops_start_counting() { return start_counting(); }

char *torch_ops_counted_operations() { return strdup(counted_operations().c_str()); }

void torch_ops_stop_counting(uint64_t handle) { at::removeCallback(handle); }

void *torch_ops_start_peak() { return new PeakMemory(); }

int64_t torch_ops_peak_bytes(const void *measurement) {
  return static_cast<const PeakMemory *>(measurement)->counter->peak.load();
}

void torch_ops_stop_peak(void *measurement) { delete static_cast<PeakMemory *>(measurement); }
}

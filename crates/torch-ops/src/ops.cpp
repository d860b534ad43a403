// What tch does not offer of libtorch, behind C functions. Every function returns null, or a message that the caller frees
// with torch_ops_free.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;

// Whether this is an AMD processor with AVX-512. libtorch's f32 products go to MKL, which uses AVX2 on AMD processors;
// oneDNN, which libtorch contains too, uses AVX-512 on both and is about twice as fast there.
bool is_amd_with_avx512() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
  char vendor[12];
  std::memcpy(vendor, &b, 4);
  std::memcpy(vendor + 4, &d, 4);
  std::memcpy(vendor + 8, &c, 4);
  if (std::memcmp(vendor, "AuthenticAMD", 12) != 0) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 16)) != 0;
#else
  return false;
#endif
}

bool goes_to_onednn(const Tensor &x, const Tensor &weight) {
  static const bool faster = is_amd_with_avx512();
  return faster && x.device().is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         x.numel() > 0;
}

Tensor onednn_linear(const Tensor &x, const Tensor &weight, const OptionalTensor &bias) {
  using Signature = Tensor(const Tensor &, const Tensor &, const OptionalTensor &, std::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return operation.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// x W^T + b of x [n, in] and W [out, in], outside autograd. Both may be transposed views.
Tensor product(const Tensor &x, const Tensor &weight, const OptionalTensor &bias = std::nullopt) {
  return goes_to_onednn(x, weight) ? onednn_linear(x, weight, bias) : at::linear(x, weight, bias);
}

// A^T B of A [n, a] and B [n, b]: [a, b].
Tensor transposed_product(const Tensor &a, const Tensor &b) {
  if (!goes_to_onednn(a, b)) return a.t().matmul(b);
  // oneDNN reads its second operand, the "weight", faster when that is the larger one.
  return a.size(1) >= b.size(1) ? onednn_linear(b.t(), a.t(), std::nullopt).t()
                                : onednn_linear(a.t(), b.t(), std::nullopt);
}

Tensor rows(const Tensor &x) { return x.reshape({-1, x.size(-1)}); }

std::vector<int64_t> with_last(const Tensor &x, int64_t last) {
  auto sizes = x.sizes().vec();
  sizes.back() = last;
  return sizes;
}

// x W^T + b, with the gradient of each.
struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, const OptionalTensor &bias) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const bool of_bias = bias.has_value() && bias->requires_grad();
    context->saved_data["of_x"] = x.requires_grad();
    context->saved_data["of_weight"] = weight.requires_grad();
    context->saved_data["of_bias"] = of_bias;
    context->saved_data["shape"] = x.sizes().vec();
    // Only what a gradient needs is kept: a frozen projection keeps no activations.
    context->save_for_backward({weight.requires_grad() ? x : Tensor(), x.requires_grad() ? weight : Tensor()});
    return product(rows(x), weight, bias).view(with_last(x, weight.size(0)));
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor dy = rows(gradients[0]).contiguous();
    variable_list result(3);
    if (context->saved_data["of_x"].toBool())
      result[0] = product(dy, saved[1].t()).view(context->saved_data["shape"].toIntVector());
    if (context->saved_data["of_weight"].toBool()) result[1] = transposed_product(dy, rows(saved[0]));
    if (context->saved_data["of_bias"].toBool()) result[2] = dy.sum(0);
    return result;
  }
};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EACH_INSTRUCTION_SET __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_INSTRUCTION_SET
#endif

constexpr int64_t kWidth = 64;  // channels whose sums stay in registers

// Adds the sums over `count` rows of a * b to `total`, for `width` of `stride` channels, at most kWidth.
EACH_INSTRUCTION_SET
void add_column_sums(const float *a, const float *b, int64_t count, int64_t stride, int64_t width, float *total) {
  constexpr int64_t kBlock = 64;  // rows that are summed before they are added to the total, for accuracy
  for (int64_t block = 0; block < count; block += kBlock) {
    const int64_t end = std::min(count, block + kBlock);
    float sum[kWidth] = {0};
    if (width == kWidth) {
      for (int64_t row = block; row < end; ++row)
        for (int64_t column = 0; column < kWidth; ++column)
          sum[column] += a[row * stride + column] * b[row * stride + column];
    } else {
      for (int64_t row = block; row < end; ++row)
        for (int64_t column = 0; column < width; ++column)
          sum[column] += a[row * stride + column] * b[row * stride + column];
    }
    for (int64_t column = 0; column < width; ++column) total[column] += sum[column];
  }
}

// The sums over n of a * b, for a and b [K, n, channels]: [K, channels], at least in f32.
Tensor column_sums(const Tensor &a, const Tensor &b) {
  const bool plain = a.device().is_cpu() && a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat;
  if (!plain) {
    const auto kind = a.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    return at::sum(a * b, {1}, false, kind);
  }
  // One pass over both, instead of writing and reading their product.
  const Tensor left = a.contiguous(), right = b.contiguous();
  const int64_t runs = left.size(0), count = left.size(1), channels = left.size(2);
  Tensor sums = at::zeros({runs, channels}, left.options());
  const int64_t parts = (channels + kWidth - 1) / kWidth;
  const float *l = left.const_data_ptr<float>();
  const float *r = right.const_data_ptr<float>();
  float *total = sums.mutable_data_ptr<float>();
  at::parallel_for(0, runs * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t run = part / parts, first = (part % parts) * kWidth;
      const int64_t offset = run * count * channels + first;
      const int64_t width = std::min(kWidth, channels - first);
      add_column_sums(l + offset, r + offset, count, channels, width, total + run * channels + first);
    }
  });
  return sums;
}

// Away from zero, so that a sum that contains the factor can be divided by it.
Tensor away_from_zero(const Tensor &factor) { return at::where(factor.abs() < 1e-12, 1e-12, factor); }

// scale * (W diag(p) x + b) + shift for K runs that share the frozen W [out, in] and b [out]; p is [K, in], scale and shift
// are [K, out], each optional, x is [K * batch, ..., in]. The products use W' = diag(scale) W diag(p), so the activations
// are read once; with y = W' x + b', the gradient of scale is the sum over samples of dy * (y - shift) / scale, and that of
// p is the sum of dx * x / p.
struct ScaledLinear : Function<ScaledLinear> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, const OptionalTensor &bias,
                        const OptionalTensor &p, const OptionalTensor &scale, const OptionalTensor &shift) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const int64_t runs = p ? p->size(0) : scale->size(0);
    const int64_t inputs = weight.size(1), outputs = weight.size(0);
    const Tensor p_used = p ? away_from_zero(*p) : Tensor();
    const Tensor scale_used = scale ? away_from_zero(*scale) : Tensor();
    Tensor scaled = weight.unsqueeze(0);
    if (p) scaled = scaled * p_used.unsqueeze(1);
    if (scale) scaled = scaled * scale_used.unsqueeze(2);
    scaled = scaled.to(x.scalar_type());
    OptionalTensor offset;
    if (bias) offset = scale ? *bias * scale_used : bias->unsqueeze(0).expand({runs, outputs});
    if (shift) offset = offset ? *offset + *shift : *shift;
    if (offset) offset = offset->to(x.scalar_type());
    const Tensor inputs_of_runs = x.reshape({runs, -1, inputs});
    Tensor y;
    if (runs == 1 || goes_to_onednn(x, scaled)) {
      std::vector<Tensor> of_runs;
      for (int64_t run = 0; run < runs; ++run) {
        const OptionalTensor own = offset ? OptionalTensor((*offset)[run]) : std::nullopt;
        of_runs.push_back(product(inputs_of_runs[run], scaled[run], own));
      }
      y = runs == 1 ? of_runs[0].unsqueeze(0) : at::stack(of_runs);
    } else {
      y = offset ? at::baddbmm(offset->unsqueeze(1), inputs_of_runs, scaled.transpose(1, 2))
                 : at::bmm(inputs_of_runs, scaled.transpose(1, 2));
    }
    const bool of_p = p && p->requires_grad(), of_scale = scale && scale->requires_grad();
    const bool of_shift = shift && shift->requires_grad();
    context->saved_data["of_x"] = x.requires_grad();
    context->saved_data["of_shift"] = of_shift;
    context->saved_data["shape"] = x.sizes().vec();
    context->save_for_backward({of_p ? inputs_of_runs : Tensor(), of_scale ? y : Tensor(),
                                x.requires_grad() || of_p ? scaled : Tensor(), of_p ? p_used : Tensor(),
                                of_scale ? scale_used : Tensor(), of_scale && shift ? *shift : Tensor()});
    return y.view(with_last(x, outputs));
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &y = saved[1], &scaled = saved[2], &p = saved[3], &scale = saved[4], &shift = saved[5];
    const bool of_x = context->saved_data["of_x"].toBool(), of_shift = context->saved_data["of_shift"].toBool();
    const auto shape = context->saved_data["shape"].toIntVector();
    const int64_t outputs = gradients[0].size(-1);
    const int64_t runs = scaled.defined() ? scaled.size(0) : (y.defined() ? y.size(0) : 1);
    const Tensor dy = gradients[0].reshape({runs, -1, outputs}).contiguous();
    variable_list result(6);
    if (of_x || p.defined()) {
      Tensor dx;
      if (runs == 1 || goes_to_onednn(dy, scaled)) {
        std::vector<Tensor> of_runs;
        for (int64_t run = 0; run < runs; ++run) of_runs.push_back(product(dy[run], scaled[run].t()));
        dx = runs == 1 ? of_runs[0].unsqueeze(0) : at::stack(of_runs);
      } else {
        dx = at::bmm(dy, scaled);
      }
      if (p.defined()) result[3] = (column_sums(dx, x) / p).to(p.scalar_type());
      if (of_x) result[0] = dx.view(shape);
    }
    Tensor of_output;
    if (of_shift || shift.defined()) {
      const auto kind = dy.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      of_output = at::sum(dy, {1}, false, kind);
    }
    if (scale.defined()) {
      Tensor sums = column_sums(dy, y);
      if (shift.defined()) sums = sums - shift * of_output;
      result[4] = (sums / scale).to(scale.scalar_type());
    }
    if (of_shift) result[5] = of_output;
    return result;
  }
};

template <class Work> char *guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  }
}

OptionalTensor optional(const Tensor *tensor) { return tensor ? OptionalTensor(*tensor) : std::nullopt; }

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

// Bytes that libtorch's allocators hand out and take back while it is installed. libtorch reports each change to the
// profiler's state of the thread, which this takes the place of; with no state installed it reports nothing.
struct AllocatedBytes : c10::MemoryReportingInfoBase {
  std::atomic<int64_t> bytes{0};
  std::atomic<int64_t> peak{0};

  void reportMemoryUsage(void *, int64_t change, size_t, size_t, c10::Device) override {
    const int64_t now = bytes.fetch_add(change) + change;
    int64_t before = peak.load();
    while (now > before && !peak.compare_exchange_weak(before, now)) {
    }
  }

  bool memoryProfilingEnabled() const override { return true; }
};

// An installed counter. Guards must be taken down in the reverse order of their construction, on the same thread.
struct PeakMemory {
  std::shared_ptr<AllocatedBytes> counter = std::make_shared<AllocatedBytes>();
  c10::DebugInfoGuard guard{c10::DebugInfoKind::PROFILER_STATE, counter};
};

}  // namespace

extern "C" {

void torch_ops_free(char *message) { free(message); }

char *torch_ops_linear(Tensor **y, const Tensor *x, const Tensor *weight, const Tensor *bias) {
  return guarded([&] { *y = new Tensor(Linear::apply(*x, *weight, optional(bias))); });
}

char *torch_ops_scaled_linear(Tensor **y, const Tensor *x, const Tensor *weight, const Tensor *bias, const Tensor *p,
                              const Tensor *scale, const Tensor *shift) {
  return guarded([&] {
    *y = new Tensor(
        ScaledLinear::apply(*x, *weight, optional(bias), optional(p), optional(scale), optional(shift)));
  });
}

char *torch_ops_adamw(const Tensor *values, const Tensor *gradient, const Tensor *first, const Tensor *second,
                      const Tensor *step, const Tensor *rate, double beta1, double beta2, double weight_decay,
                      double epsilon, const Tensor *skipped) {
  return guarded([&] {
    at::NoGradGuard guard;
    at::_fused_adamw_({*values}, {*gradient}, {*first}, {*second}, {}, {*step}, *rate, beta1, beta2, weight_decay,
                      epsilon, false, false, std::nullopt, *skipped);
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

void *torch_ops_start_peak() { return new PeakMemory(); }

int64_t torch_ops_peak_bytes(const void *measurement) {
  return static_cast<const PeakMemory *>(measurement)->counter->peak.load();
}

void torch_ops_stop_peak(void *measurement) { delete static_cast<PeakMemory *>(measurement); }
}

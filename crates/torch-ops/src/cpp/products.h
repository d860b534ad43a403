// Products of activations with weights, frozen, trained or adapted, as autograd functions.

#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include "common.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

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

// Not zero, so that a sum that contains the factor can be divided by it: every other number absorbs the addend.
Tensor not_zero(const Tensor &factor) { return factor + 1e-30; }

// Products of K runs: x [K, n, in] times the transpose of W [1 or K, out, in], plus an offset [1 or K, out].
Tensor product_of_runs(const Tensor &x, const Tensor &weight, const OptionalTensor &offset = std::nullopt) {
  const int64_t runs = x.size(0);
  const auto of_run = [&](const OptionalTensor &tensor, int64_t run) {
    return tensor ? OptionalTensor((*tensor)[tensor->size(0) == 1 ? 0 : run]) : std::nullopt;
  };
  const bool same = weight.size(0) == 1 && (!offset || offset->size(0) == 1);
  if (same) {
    const Tensor y = product(rows(x), weight[0], of_run(offset, 0));
    return y.view({runs, -1, y.size(1)});
  }
  if (runs == 1 || goes_to_onednn(x, weight)) {
    std::vector<Tensor> all;
    for (int64_t run = 0; run < runs; ++run)
      all.push_back(product(x[run], *of_run(weight, run), of_run(offset, run)));
    return at::stack(all);
  }
  const Tensor transposed = weight.transpose(1, 2).expand({runs, weight.size(2), weight.size(1)});
  return offset ? at::baddbmm(offset->unsqueeze(1), x, transposed) : at::bmm(x, transposed);
}

// y += x W^T for x [K, n, in] and W [K, out, in], in place.
void add_product_of_runs(const Tensor &y, const Tensor &x, const Tensor &weight) {
  if (goes_to_onednn(x, weight)) {
    for (int64_t run = 0; run < x.size(0); ++run) y[run].add_(product(x[run], weight[run]));
  } else if (x.size(0) == 1) {
    y[0].addmm_(x[0], weight[0].t());
  } else {
    y.baddbmm_(x, weight.transpose(1, 2));
  }
}

// The sums over n of a^T b for a [K, n, rows] and b [K, n, columns]: [K, rows, columns].
Tensor transposed_product_of_runs(const Tensor &a, const Tensor &b) {
  if (a.size(0) == 1) return transposed_product(a[0], b[0]).unsqueeze(0);
  if (goes_to_onednn(a, b)) {
    std::vector<Tensor> all;
    for (int64_t run = 0; run < a.size(0); ++run) all.push_back(transposed_product(a[run], b[run]));
    return at::stack(all);
  }
  return at::bmm(a.transpose(1, 2), b);
}

// scale * (W diag(p) x + b + B A diag(p) x) + shift for K runs that share the frozen W [out, in] and b [out]. p is [K, in],
// scale is [K, out], shift [1 or K, out], A [K, rank, in] and B [K, out, rank]; each is optional, A and B come together.
// x is [K * batch, ..., in].
//
// The factors go into the weights: with W' = diag(scale) W diag(p), A' = A diag(p) and B' = diag(scale) B, the result is
// y = W' x + B' A' x + b', and activations are read by products only. The gradient of scale is the sum over samples of
// dy * (y - shift) / scale, and that of p the sum of dx * x / p. Without p and scale, W itself is used.
struct AdaptedLinear : Function<AdaptedLinear> {
  enum Saved { kX, kY, kWeight, kP, kScale, kShift, kA, kB, kHidden };

  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, const OptionalTensor &bias,
                        const OptionalTensor &p, const OptionalTensor &scale, const OptionalTensor &shift,
                        const OptionalTensor &a, const OptionalTensor &b) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const auto kind = x.scalar_type();
    const int64_t runs = (p ? p : scale ? scale : a ? a : shift)->size(0);
    const Tensor p_used = p ? not_zero(*p) : Tensor();
    const Tensor scale_used = scale ? not_zero(*scale) : Tensor();
    Tensor used = weight.unsqueeze(0);
    if (p) used = used * p_used.unsqueeze(1);
    if (scale) used = used * scale_used.unsqueeze(2);
    used = used.to(kind);
    OptionalTensor offset;
    if (bias) offset = scale ? *bias * scale_used : bias->unsqueeze(0);
    if (shift) offset = offset ? *offset + *shift : *shift;
    if (offset) offset = offset->to(kind);
    const Tensor inputs = x.reshape({runs, -1, weight.size(1)});
    const Tensor y = product_of_runs(inputs, used, offset);
    Tensor a_used, b_used, hidden;
    if (a) {
      a_used = (p ? *a * p_used.unsqueeze(1) : *a).to(kind);
      b_used = (scale ? *b * scale_used.unsqueeze(2) : *b).to(kind);
      hidden = product_of_runs(inputs, a_used);
      add_product_of_runs(y, hidden, b_used);
    }
    const bool of_p = p && p->requires_grad(), of_scale = scale && scale->requires_grad();
    const bool of_shift = shift && shift->requires_grad();
    const bool of_factors = a && (a->requires_grad() || b->requires_grad());
    const bool of_x = x.requires_grad() || of_p;
    context->saved_data["of_x"] = x.requires_grad();
    context->saved_data["of_shift"] = of_shift;
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["runs"] = runs;
    if (a) {
      context->saved_data["kind_of_a"] = a->scalar_type();
      context->saved_data["kind_of_b"] = b->scalar_type();
    }
    const auto if_needed = [](bool is, const Tensor &tensor) { return is ? tensor : Tensor(); };
    context->save_for_backward({if_needed(of_p || of_factors, inputs), if_needed(of_scale, y), if_needed(of_x, used),
                                if_needed(of_p || of_factors, p_used), if_needed(of_scale || of_factors, scale_used),
                                if_needed(of_scale && shift, shift ? *shift : Tensor()), a_used, b_used,
                                if_needed(of_factors, hidden)});
    context->saved_data["of_p"] = of_p;
    context->saved_data["of_scale"] = of_scale;
    context->saved_data["of_factors"] = of_factors;
    return y.view(with_last(x, weight.size(0)));
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto is = [&](const char *name) { return context->saved_data[name].toBool(); };
    const bool of_x = is("of_x"), of_p = is("of_p"), of_scale = is("of_scale"), of_shift = is("of_shift");
    const bool of_factors = is("of_factors");
    const int64_t runs = context->saved_data["runs"].toInt();
    const Tensor dy = gradients[0].reshape({runs, -1, gradients[0].size(-1)}).contiguous();
    variable_list result(8);
    Tensor of_hidden;
    if (saved[kB].defined()) of_hidden = product_of_runs(dy, saved[kB].transpose(1, 2));
    if (of_x || of_p) {
      const Tensor dx = product_of_runs(dy, saved[kWeight].transpose(1, 2));
      if (of_hidden.defined()) add_product_of_runs(dx, of_hidden, saved[kA].transpose(1, 2));
      if (of_p) result[3] = (column_sums(dx, saved[kX]) / saved[kP]).to(saved[kP].scalar_type());
      if (of_x) result[0] = dx.view(context->saved_data["shape"].toIntVector());
    }
    if (of_factors) {
      Tensor of_a = transposed_product_of_runs(of_hidden, saved[kX]);
      Tensor of_b = transposed_product_of_runs(dy, saved[kHidden]);
      if (saved[kP].defined()) of_a = of_a * saved[kP].unsqueeze(1);
      if (saved[kScale].defined()) of_b = of_b * saved[kScale].unsqueeze(2);
      result[6] = of_a.to(context->saved_data["kind_of_a"].toScalarType());
      result[7] = of_b.to(context->saved_data["kind_of_b"].toScalarType());
    }
    Tensor of_output;
    if (of_shift || saved[kShift].defined()) {
      const auto kind = dy.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      of_output = at::sum(dy, {1}, false, kind);
    }
    if (of_scale) {
      Tensor sums = column_sums(dy, saved[kY]);
      if (saved[kShift].defined()) sums = sums - saved[kShift] * of_output;
      result[4] = (sums / saved[kScale]).to(saved[kScale].scalar_type());
    }
    if (of_shift) result[5] = of_output;
    return result;
  }
};

}  // namespace

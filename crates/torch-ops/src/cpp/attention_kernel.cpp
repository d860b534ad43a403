// See attention_kernel.h. This file is compiled for AVX2 where the processor is of the x86 family, so it includes nothing
// whose inline functions other files could get from it.

#include "attention_kernel.h"

namespace torch_ops {
namespace {

#define INLINE inline __attribute__((always_inline))

// At any address.
typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t IntLanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

INLINE Lanes &lanes(float *x) { return *reinterpret_cast<Lanes *>(x); }
INLINE const Lanes &lanes(const float *x) { return *reinterpret_cast<const Lanes *>(x); }

// exp(min(x, 0)): 2^n times a polynomial of degree 6 on [-log(2) / 2, log(2) / 2], with a relative error below 2e-7. NaN
// stays NaN.
INLINE Lanes exp_of_negative(Lanes x) {
  const Lanes zero = {0};
  x = x > zero ? zero : x;
  x = x < -87.0f ? zero - 87.0f : x;
  const IntLanes n = __builtin_convertvector(x * 1.44269504f - 0.5f, IntLanes);  // rounded towards zero
  const Lanes whole = __builtin_convertvector(n, Lanes);
  const Lanes r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Lanes y = r * (1.0f / 720) + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  const IntLanes power = (n + 127) << 23;
  return y * reinterpret_cast<const Lanes &>(power);
}

// The sum over i of a[i * a_stride] * rows[i * stride], for `count` rows of `parts` times kLanes numbers.
template <int parts>
INLINE void combine_parts(const float *a, int64_t a_stride, const float *rows, int64_t stride, int64_t count, float *sum) {
  // Two sums of each part, since an addition has to wait for the one before it.
  Lanes even[parts] = {}, odd[parts] = {};
  for (int64_t pair = 0; pair < count / 2; ++pair, a += 2 * a_stride, rows += 2 * stride)
    for (int part = 0; part < parts; ++part) {
      even[part] += a[0] * lanes(rows + part * kLanes);
      odd[part] += a[a_stride] * lanes(rows + stride + part * kLanes);
    }
  for (int part = 0; part < parts; ++part) {
    if (count % 2 != 0) even[part] += a[0] * lanes(rows + part * kLanes);
    lanes(sum + part * kLanes) = even[part] + odd[part];
  }
}

// sum[j] = the sum over i of a[i * a_stride] * rows[i * stride + j], for `count` rows and a multiple of kLanes columns.
INLINE void combine(const float *a, int64_t a_stride, const float *rows, int64_t stride, int64_t count, int64_t columns,
                    float *sum) {
  int64_t column = 0;
  for (; column + 4 * kLanes <= columns; column += 4 * kLanes)
    combine_parts<4>(a, a_stride, rows + column, stride, count, sum + column);
  switch ((columns - column) / kLanes) {
    case 3: return combine_parts<3>(a, a_stride, rows + column, stride, count, sum + column);
    case 2: return combine_parts<2>(a, a_stride, rows + column, stride, count, sum + column);
    case 1: return combine_parts<1>(a, a_stride, rows + column, stride, count, sum + column);
  }
}

INLINE float sum_of(Lanes x) { return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7])); }

// The sum over the tokens of a[i] * b[i]; in the lanes after them, a is 0.
INLINE float dot(const float *a, const float *b, int64_t count) {
  Lanes sums = {0};
  for (int64_t lane = 0; lane < count; lane += kLanes) sums += lanes(a + lane) * lanes(b + lane);
  return sum_of(sums);
}

// scores[j] = the softmax over the tokens of scale * scores[j]; 0 in the lanes after them.
INLINE void softmax(const AttentionSizes &sizes, float *scores) {
  // Lanes after the tokens are in the last part only, and are replaced in registers: a part that was just written number
  // by number is slow to read.
  const int64_t last = padded(sizes.tokens) - kLanes;
  const IntLanes numbers = {0, 1, 2, 3, 4, 5, 6, 7}, is_token = numbers < static_cast<int32_t>(sizes.tokens - last);
  const Lanes zero = {0};
  Lanes largest = is_token ? lanes(scores + last) : zero - 3e38f;
  for (int64_t lane = 0; lane < last; lane += kLanes)
    largest = lanes(scores + lane) > largest ? lanes(scores + lane) : largest;
  float shift = largest[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) shift = largest[lane] > shift ? largest[lane] : shift;
  Lanes sums = exp_of_negative((lanes(scores + last) - shift) * sizes.scale);
  sums = is_token ? sums : zero;
  lanes(scores + last) = sums;
  for (int64_t lane = 0; lane < last; lane += kLanes) {
    lanes(scores + lane) = exp_of_negative((lanes(scores + lane) - shift) * sizes.scale);
    sums += lanes(scores + lane);
  }
  const float factor = 1 / sum_of(sums);
  for (int64_t lane = 0; lane <= last; lane += kLanes) lanes(scores + lane) *= factor;
}

// `size` rows of padded(tokens) numbers: a column for each token, and zeros after them.
INLINE void transpose(const float *rows, int64_t stride, const AttentionSizes &sizes, float *columns) {
  const int64_t count = padded(sizes.tokens);
  for (int64_t channel = 0; channel < sizes.size; ++channel, columns += count) {
    for (int64_t token = 0; token < sizes.tokens; ++token) columns[token] = rows[token * stride + channel];
    for (int64_t token = sizes.tokens; token < count; ++token) columns[token] = 0;
  }
}

}  // namespace

bool has_attention_kernel() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

void attend(const Head<const float> &head, const AttentionSizes &sizes, float *shares, float *y, int64_t y_stride) {
  const int64_t count = padded(sizes.tokens);
  float keys[kMaxHeadSize * kMaxTokens];
  transpose(head.k, head.stride, sizes, keys);
  for (int64_t query = 0; query < sizes.queries; ++query) {
    float *share = shares + query * count;
    combine(head.q + query * head.stride, 1, keys, count, sizes.size, count, share);
    softmax(sizes, share);
    combine(share, 1, head.v, head.stride, sizes.tokens, sizes.size, y + query * y_stride);
  }
}

void attend_backward(const Head<const float> &head, const AttentionSizes &sizes, const float *shares, const float *of_y,
                     int64_t y_stride, const Head<float> &gradient) {
  const auto [queries, tokens, size, scale] = sizes;
  const int64_t count = padded(tokens);
  float values[kMaxHeadSize * kMaxTokens], of_scores[kMaxTokens * kMaxTokens];
  transpose(head.v, head.stride, sizes, values);
  for (int64_t query = 0; query < queries; ++query) {
    const float *share = shares + query * count;
    float *of_score = of_scores + query * count;
    combine(of_y + query * y_stride, 1, values, count, size, count, of_score);
    const float mean = dot(share, of_score, count);
    for (int64_t lane = 0; lane < count; lane += kLanes)
      lanes(of_score + lane) = lanes(share + lane) * (lanes(of_score + lane) - mean) * scale;
    combine(of_score, 1, head.k, head.stride, tokens, size, gradient.q + query * gradient.stride);
  }
  for (int64_t token = 0; token < tokens; ++token) {
    const int64_t row = token * gradient.stride;
    combine(of_scores + token, count, head.q, head.stride, queries, size, gradient.k + row);
    combine(shares + token, count, of_y, y_stride, queries, size, gradient.v + row);
    for (int64_t channel = 0; token >= queries && channel < size; ++channel) gradient.q[row + channel] = 0;
  }
}

}  // namespace torch_ops

// Attention of one head within one short sequence.

#pragma once

#include <cstdint>

namespace torch_ops {

constexpr int64_t kMaxTokens = 64;
constexpr int64_t kMaxHeadSize = 128;
constexpr int64_t kLanes = 8;  // numbers that are computed at a time

// The number of lanes for that many numbers, all of them filled.
inline int64_t padded(int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// Rows of queries, keys and values, or of their gradients, that are `stride` numbers apart.
template <class Number> struct Head {
  Number *q, *k, *v;
  int64_t stride;
};

// `size` is the number of channels, a multiple of kLanes; `scale` multiplies the scores.
struct AttentionSizes {
  int64_t queries, tokens, size;
  float scale;
};

// Whether this processor has the instructions that the kernel is compiled for.
bool has_attention_kernel();

// y = softmax(scale * q k^T) v, a row for each query, `y_stride` apart; `shares` [queries, padded(tokens)] is the softmax.
void attend(const Head<const float> &head, const AttentionSizes &sizes, float *shares, float *y, int64_t y_stride);

// The gradients of q, k and v from that of y.
void attend_backward(const Head<const float> &head, const AttentionSizes &sizes, const float *shares, const float *of_y,
                     int64_t y_stride, const Head<float> &gradient);

}  // namespace torch_ops

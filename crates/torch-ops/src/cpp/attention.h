// Attention within short sequences on a processor. libtorch's kernel calls a matrix product for each block of each head,
// whose calls cost more than the products if a sequence has tens of tokens.

#pragma once

#include "attention_kernel.h"
#include "common.h"

namespace {

using torch_ops::AttentionSizes;
using torch_ops::Head;

// The numbers that `ShortAttention` keeps for each query of each head; 0 where it does not apply.
int64_t lanes_of_head(int64_t tokens, int64_t size) {
  using namespace torch_ops;
  static const bool has_kernel = has_attention_kernel();
  const bool fits = tokens <= kMaxTokens && size > 0 && size <= kMaxHeadSize && size % kLanes == 0;
  return has_kernel && fits ? padded(tokens) : 0;
}

// Multi-head attention in f32 on a processor of the first `queries` tokens to all tokens: [batch, queries, heads * size].
struct ShortAttention : Function<ShortAttention> {
  static Tensor forward(AutogradContext *context, const Tensor &qkv, int64_t heads, int64_t queries) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor input = qkv.contiguous();
    const AttentionSizes sizes = sizes_of(input, heads, queries);
    Tensor shares = at::empty({input.size(0), heads, queries, torch_ops::padded(sizes.tokens)}, input.options());
    Tensor y = at::empty({input.size(0), queries, heads * sizes.size}, input.options());
    float *share = shares.mutable_data_ptr<float>(), *result = y.mutable_data_ptr<float>();
    each_head(input, heads, [&](int64_t sequence, int64_t head) {
      const int64_t width = heads * sizes.size;
      torch_ops::attend(head_of<const float>(input.const_data_ptr<float>(), sizes, heads, sequence, head), sizes,
                        share + (sequence * heads + head) * queries * shares.size(3),
                        result + sequence * queries * width + head * sizes.size, width);
    });
    if (qkv.requires_grad()) context->save_for_backward({input, shares});
    return y;
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &input = saved[0], &shares = saved[1];
    const int64_t heads = shares.size(1), queries = shares.size(2);
    const AttentionSizes sizes = sizes_of(input, heads, queries);
    const Tensor dy = gradients[0].contiguous();
    Tensor dx = at::empty_like(input);
    const float *share = shares.const_data_ptr<float>(), *of_y = dy.const_data_ptr<float>();
    float *of_input = dx.mutable_data_ptr<float>();
    each_head(input, heads, [&](int64_t sequence, int64_t head) {
      const int64_t width = heads * sizes.size;
      torch_ops::attend_backward(head_of<const float>(input.const_data_ptr<float>(), sizes, heads, sequence, head),
                                 sizes, share + (sequence * heads + head) * queries * shares.size(3),
                                 of_y + sequence * queries * width + head * sizes.size, width,
                                 head_of<float>(of_input, sizes, heads, sequence, head));
    });
    return {dx, Tensor(), Tensor()};
  }

 private:
  static AttentionSizes sizes_of(const Tensor &input, int64_t heads, int64_t queries) {
    const int64_t tokens = input.size(1), size = input.size(2) / (3 * heads);
    return {queries, tokens, size, 1.0f / std::sqrt(static_cast<float>(size))};
  }

  template <class Number>
  static Head<Number> head_of(Number *input, const AttentionSizes &sizes, int64_t heads, int64_t sequence, int64_t head) {
    const int64_t width = heads * sizes.size;
    Number *q = input + sequence * sizes.tokens * 3 * width + head * sizes.size;
    return {q, q + width, q + 2 * width, 3 * width};
  }

  template <class Work> static void each_head(const Tensor &input, int64_t heads, Work work) {
    at::parallel_for(0, input.size(0) * heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) work(index / heads, index % heads);
    });
  }
};

}  // namespace

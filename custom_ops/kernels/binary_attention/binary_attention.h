// SPDX-License-Identifier: Apache-2.0
// bebert::BinaryAttention and bebert::BiasedBinaryAttention: docs/ops.md.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_H_

#include <stddef.h>
#include <stdint.h>

#include "../codes.h"
#include "../cpu.h"
#include "../host.h"

namespace bebert {

struct AttentionConfig {
  int64_t heads, head_size;
  bool softmax;
  CodeType input, probability, output;
};

// Codes of one head: `count` rows, of which the head owns `head_size` channels from `channel` on.
struct HeadCodes {
  const uint8_t* rows;
  int64_t row_bytes, count, channel;
};

// Keys that a kernel may load beyond the last.
constexpr int64_t kKeyBlock = 64;

// One head of one sequence of one member.
struct AttentionHead {
  AttentionConfig config;
  HeadCodes query, key, value;  // key.count == value.count
  float score_scale, probability_inverse_step, context_scale;
  const float* bias;    // null, or bias[j - i] is added to the scaled score of query i and key j; kKeyBlock more follow
  Quantizer quantizer;  // at the first channel of the head
  // The output: query.count rows, of which the head owns `head_size` channels from `codes_channel` on. Codes of width
  // 1: the head's bits are zero on entry; other bits in the same bytes belong to others and must be kept.
  uint8_t* codes;
  int64_t codes_row_bytes, codes_channel;
  void* scratch;  // binary_attention_scratch_<isa>(config, query.count, key.count) bytes, 64-byte aligned
};

#define KERNEL(isa)                                       \
  void binary_attention_##isa(const AttentionHead& head); \
  size_t binary_attention_scratch_##isa(const AttentionConfig& config, int64_t queries, int64_t keys);
#include "kernels.inc"
#undef KERNEL

// Query, key or value of all members.
struct AttentionCodes {
  const uint8_t* codes;  // [members, tokens, row_bytes]
  int64_t tokens, row_bytes;
  int64_t channel;  // of head 0
};

struct BinaryAttentionArguments {
  AttentionConfig config;
  AttentionCodes query, key, value;
  const int64_t* query_offsets;  // [sequences + 1]
  const int64_t* key_offsets;    // [sequences + 1]
  int64_t members, sequences;
  const float* score_scale;  // [members, heads], like the next two
  const float* probability_inverse_step;
  const float* context_scale;
  const float* distance_bias;  // [members, heads, 2 * most_distance + 1], or null for none, which softmax needs
  int64_t most_distance;
  const float* shift;  // [members, heads * head_size], like the next
  const float* inverse_step;
  uint8_t* codes;  // [members, query.tokens, code_row_bytes]
};

// False if the host had no memory left.
bool binary_attention(Isa isa, const BinaryAttentionArguments& arguments, const Host& host);

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_H_

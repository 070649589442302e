// SPDX-License-Identifier: Apache-2.0
// What a CPU path of the packed binary matrix product provides to its driver.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_KERNEL_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_KERNEL_H_

#include "../dispatch.h"
#include "packed_binary_matmul.h"

namespace bebert {

// Output channels are split between tasks in blocks of this many: whole words of a bit-packed row.
constexpr int64_t kChannelBlock = 64;

// The most tokens of a task.
constexpr int64_t kTokenBlock = 64;

// Some tokens and output channels of one member. Pointers are at the first token, and at channel 0 of the member.
struct PackedBinaryMatMulTask {
  const uint8_t* codes;    // [tokens, code_row_bytes(input, k)]
  const void* tables;      // what build_tables wrote for these tokens; unused where table_bytes is 0
  const uint8_t* weights;  // interleaved
  const float *scale, *bias, *shift, *inverse_step;
  // Null, or for codes of width 1: the bit of channel c is uint32_t(sum - zero_begin[c]) > zero_length[c]. For ternary
  // codes that bit is whether the code is 1, and the same bit of the numbers `zero_set` further on whether it is -1.
  const int32_t* zero_begin;
  const uint32_t* zero_length;
  int64_t zero_set;
  const void* levels;  // null, or what find_levels wrote
  float* y;            // [tokens, n], or null
  uint8_t* codes_out;  // [tokens, code_row_bytes(output, n)], or null
  int64_t tokens, n, k;
  int64_t channel_begin, channel_end;  // multiples of kChannelBlock, but for an end at n
  CodeType input, output;
  Activation activation;
};

struct PackedBinaryMatMulKernel {
  // The interleaved weights of one member, 64-byte aligned.
  size_t (*interleaved_bytes)(int64_t n, int64_t k);
  void (*interleave)(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out);
  // Tables of partial sums, built once for a block of tokens and shared by all output channels. Bytes for each token, a
  // multiple of 64; 0 if the path needs none for this code type. There is memory for an even number of tokens.
  size_t (*table_bytes)(int64_t k, CodeType input);
  void (*build_tables)(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* tables);
  void (*multiply)(const PackedBinaryMatMulTask& task);
  // The epilogue of `multiply`: from the exact sums of the kChannelBlock channels from `channel` on, sums[t *
  // kChannelBlock + c], 64-byte aligned, to outputs of every token of the task. Null where intervals of zeros gain
  // nothing.
  void (*store)(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums);
  // Codes of width 8 by the exact sum alone, or null. Bytes for the n channels of one member, a multiple of 64; 0 for
  // code types, k and activations that gain nothing. find_levels reads k, n, code types, activation and parameters,
  // writes what `multiply` then decides by, and returns for how many channels it found a way: the others keep the float
  // arithmetic.
  size_t (*level_bytes)(int64_t n, int64_t k, CodeType input, CodeType output, Activation activation) = nullptr;
  int64_t (*find_levels)(const PackedBinaryMatMulTask& task, void* levels) = nullptr;
};

static inline bool is_ternary(CodeType code) { return code.width == 8 && code.low == -1 && code.high == 1; }

// The largest magnitude of the sum of k codes, whatever the signs.
static inline int64_t largest_sum(int64_t k, CodeType input) {
  return k * (input.high > -input.low ? input.high : -input.low);
}

#define KERNEL(isa) extern const PackedBinaryMatMulKernel packed_binary_matmul_##isa;
#include "kernels.inc"
#undef KERNEL

static inline const PackedBinaryMatMulKernel& choose_kernel(Isa live) {
#define KERNEL(isa) \
  if (may_run(live, Isa::isa)) return packed_binary_matmul_##isa;
#include "kernels.inc"
#undef KERNEL
  return packed_binary_matmul_scalar;
}

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_KERNEL_H_

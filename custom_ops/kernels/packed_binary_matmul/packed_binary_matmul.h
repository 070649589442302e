// SPDX-License-Identifier: Apache-2.0
// PackedBinaryMatMul and PackedBinaryMatMulQuantize (docs/ops.md): codes times packed {-1, +1} weights.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_PACKED_BINARY_MATMUL_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_PACKED_BINARY_MATMUL_H_

#include <stddef.h>
#include <stdint.h>

#include "../activation.h"
#include "../codes.h"
#include "../cpu.h"
#include "../host.h"

namespace bebert {

// What is known when a session is created. n, k >= 1.
struct PackedBinaryMatMulPlan {
  int64_t members, n, k;
  CodeType input;
  Isa isa;
};

struct PackedBinaryMatMulArgs {
  const uint8_t* codes;       // [code_members, tokens, code_row_bytes(input, k)]
  int64_t code_members;       // 1 or plan.members
  int64_t tokens;             // may be 0
  const uint8_t* weights;     // interleaved, as written by packed_binary_matmul_interleave
  const float* scale;         // [members, n]
  const float* bias;          // [members, n]
  Activation activation;      // applied only where codes_out is set
  const float* shift;         // [members, n], read only where codes_out is set, as the next two
  const float* inverse_step;  // [members, n]
  CodeType output;
  const int32_t* zero_begin;    // [sets, members, n], as packed_binary_matmul_zero_ranges found them, or null
  const uint32_t* zero_length;  // [sets, members, n]
  const void* levels;           // as packed_binary_matmul_find_levels wrote it, or null
  float* y;                     // [members, tokens, n], or null
  uint8_t* codes_out;           // [members, tokens, code_row_bytes(output, n)], or null; exactly one of both is set
};

// Bytes of the interleaved weights of all members: about one bit a weight on every CPU path. The layout differs between
// paths and input code types and is never stored in a file.
size_t packed_binary_matmul_interleaved_bytes(const PackedBinaryMatMulPlan& plan);

// rows: [members, n, packed_row_bytes(k)], as stored in the file; out: 64-byte aligned.
void packed_binary_matmul_interleave(const PackedBinaryMatMulPlan& plan, const uint8_t* rows, uint8_t* out,
                                     const Host& host);

// The bit of a code of width 1 is a function of the exact sum, whatever the activation. Where the sums with bit 0 are
// one interval, cyclic in 32 bits, the product needs no float arithmetic: the bit is uint32_t(sum - begin) > length.
// Finds the intervals of all channels by trying every sum; reads activation, output and the parameters of `args`. False
// where the path gains nothing by it, there are too many sums, or some channel has more than one interval. A ternary
// code is two such bits, whether it is 1 and whether it is -1, on paths that find no levels.
bool packed_binary_matmul_zero_ranges(const PackedBinaryMatMulPlan& plan, const PackedBinaryMatMulArgs& args,
                                      int32_t* begin, uint32_t* length);

// How many intervals a channel has: 1 or 2, or 0 where the code type has none.
int64_t packed_binary_matmul_zero_sets(CodeType output);

// A level of a code of width 8 is a function of the exact sum too. Bytes of what packed_binary_matmul_find_levels
// writes about those of all channels; 0 where the path gains nothing by it.
size_t packed_binary_matmul_level_bytes(const PackedBinaryMatMulPlan& plan, CodeType output, Activation activation);

// Reads activation, output and the parameters of `args`; levels: 64-byte aligned. Returns for how many channels it
// found thresholds of the sum: the others keep the float arithmetic.
int64_t packed_binary_matmul_find_levels(const PackedBinaryMatMulPlan& plan, const PackedBinaryMatMulArgs& args,
                                         void* levels);

// False when the host could not allocate scratch memory; the outputs are then unspecified.
bool packed_binary_matmul_run(const PackedBinaryMatMulPlan& plan, const PackedBinaryMatMulArgs& args, const Host& host);

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_PACKED_BINARY_MATMUL_H_

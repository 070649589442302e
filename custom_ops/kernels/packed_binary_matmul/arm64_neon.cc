// SPDX-License-Identifier: Apache-2.0
// Advanced SIMD of the AArch64 baseline: for each 64 output channels the exact sums of all tokens of a task, then their
// epilogue.
#include "arm64_neon_epilogue.h"
#include "arm64_neon_lut.h"
#include "arm64_neon_xnor.h"

namespace bebert {

namespace {

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  const auto function = input.width == 1 ? interleave_xnor : interleave_lut;
  function(rows, n, k, input, out);
}

size_t table_bytes(int64_t k, CodeType input) {
  return static_cast<size_t>(input.width == 1 ? xnor_table_bytes(k) : lut_table_bytes(k, input));
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* tables) {
  const auto function = input.width == 1 ? build_xnor_tables : build_lut_tables;
  function(codes, tokens, k, input, static_cast<uint8_t*>(tables));
}

void multiply(const PackedBinaryMatMulTask& task) {
  const auto product = task.input.width == 8 ? multiply_tables
                       : is_sign(task.input) ? multiply_bits<PairwiseSums, true>
                                             : multiply_bits<PairwiseSums, false>;
  multiply_blocks(task, product);
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_arm64_neon = {interleaved_bytes, interleave, table_bytes,
                                                                  build_tables,      multiply,   store_block};

}  // namespace bebert

// SPDX-License-Identifier: Apache-2.0
// arm64_neon with the dot product of bytes: it adds up counted bits, and multiplies 8-bit codes. Codes of up to 4 bits
// are looked up as there, 4.3 vector operations for 128 products.
#include "arm64_dotprod_bytes.h"
#include "arm64_neon_epilogue.h"
#include "arm64_neon_lut.h"
#include "arm64_neon_xnor.h"

namespace bebert {

namespace {

struct DotProductSums {
  static uint32x4_t add_twice(uint32x4_t sums, uint8x16_t counts) { return vdotq_u32(sums, counts, vdupq_n_u8(2)); }
};

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  const auto function = input.width == 1 ? interleave_xnor : is_wide(input) ? interleave_dot : interleave_lut;
  function(rows, n, k, input, out);
}

size_t table_bytes(int64_t k, CodeType input) {
  return static_cast<size_t>(input.width == 1 ? xnor_table_bytes(k)
                             : is_wide(input) ? dot_table_bytes(k)
                                              : lut_table_bytes(k, input));
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* tables) {
  const auto function = input.width == 1 ? build_xnor_tables : is_wide(input) ? build_dot_tables : build_lut_tables;
  function(codes, tokens, k, input, static_cast<uint8_t*>(tables));
}

void multiply(const PackedBinaryMatMulTask& task) {
  const auto product = is_wide(task.input)     ? multiply_dot
                       : task.input.width == 8 ? multiply_tables
                       : is_sign(task.input)   ? multiply_bits<DotProductSums, true>
                                               : multiply_bits<DotProductSums, false>;
  multiply_blocks(task, product);
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_arm64_dotprod = {interleaved_bytes, interleave, table_bytes,
                                                                     build_tables,      multiply,   store_block};

}  // namespace bebert

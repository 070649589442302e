// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VPOPCNTDQ, VBMI and VNNI: for each 64 output channels the exact sums of all tokens of a task, then their
// epilogue.
#include "x86_avx512_epilogue.h"
#include "x86_avx512_lut.h"
#include "x86_avx512_xnor.h"

namespace bebert {

namespace {

size_t interleaved_bytes(int64_t n, int64_t k) { return static_cast<size_t>(padded_channels(n) * packed_row_bytes(k)); }

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  if (input.width == 1) {
    interleave_words(rows, n, k, out);
  } else {
    interleave_nibbles(rows, n, k, out);
  }
}

size_t table_bytes(int64_t k, CodeType input) {
  return input.width == 1 ? 0 : static_cast<size_t>(passes(input) * words_of_row(k) * kTableWordBytes);
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* tables) {
  build_nibble_tables(codes, tokens, k, input, static_cast<uint8_t*>(tables));
}

void store(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  const Epilogue epilogue = choose_epilogue(task);
  for (int64_t c = 0; c < kChannelBlock; c += 16) epilogue(task, channel + c, sums + c);
}

void multiply(const PackedBinaryMatMulTask& task) {
  const auto product = task.input.width == 8 ? multiply_tables
                       : task.input.low < 0  ? multiply_bits<true>
                                             : multiply_bits<false>;
  alignas(64) int32_t sums[kTokenBlock][kChannelBlock];
  for (int64_t channel = task.channel_begin; channel < task.channel_end; channel += kChannelBlock) {
    product(task, channel, sums);
    store(task, channel, sums[0]);
  }
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_x86_avx512 = {interleaved_bytes, interleave, table_bytes,
                                                                  build_tables,      multiply,   store};

}  // namespace bebert

// SPDX-License-Identifier: Apache-2.0
// AVX2: for each 64 output channels (or 128) the exact sums of all tokens of a task, then their epilogue.
#include "x86_avx2_bits.h"
#include "x86_avx2_epilogue.h"
#include "x86_avx2_values.h"

namespace bebert {

namespace {

// Enough for both layouts, which round k up differently.
size_t interleaved_bytes(int64_t n, int64_t k) {
  const int64_t bits = BitUnits::count(k) * BitUnits::kBytes, values = ValueUnits::count(k) * ValueUnits::kBytes;
  return static_cast<size_t>(padded_channels(n) / kChannelBlock * (bits > values ? bits : values));
}

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  if (input.width == 1) {
    interleave_bits(rows, n, k, out);
  } else {
    interleave_values(rows, n, k, out);
  }
}

// A pair of tokens of one-bit codes shares its tables.
size_t table_bytes(int64_t k, CodeType input) {
  const int64_t bytes =
      input.width == 1 ? pair_table_bytes(k) / 2 : passes(input) * ValueUnits::count(k) * kUnitTableBytes;
  return static_cast<size_t>(kTermBytes + divide_up(bytes, 64) * 64);
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* tables) {
  if (input.width == 1) {
    build_bit_tables(codes, tokens, k, input, tables);
  } else {
    build_value_tables(codes, tokens, k, input, tables);
  }
}

// kBlocks blocks of channels.
template <int kBlocks>
void multiply_blocks(const PackedBinaryMatMulTask& task, int64_t channel) {
  alignas(64) int32_t sums[kBlocks][kTokenBlock][kChannelBlock];
  if (task.input.width == 1) {
    for (int i = 0; i < kBlocks; ++i) multiply_bits(task, channel + i * kChannelBlock, sums[i]);
  } else {
    multiply_values<kBlocks>(task, channel, sums);
  }
  for (int i = 0; i < kBlocks; ++i) store(task, channel + i * kChannelBlock, sums[i][0]);
}

void multiply(const PackedBinaryMatMulTask& task) {
  int64_t channel = task.channel_begin;
  for (; channel + kChannelBlock < task.channel_end; channel += 2 * kChannelBlock) multiply_blocks<2>(task, channel);
  if (channel < task.channel_end) multiply_blocks<1>(task, channel);
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_x86_avx2 = {interleaved_bytes, interleave, table_bytes,
                                                                build_tables,      multiply,   store};

}  // namespace bebert

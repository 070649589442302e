// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VPOPCNTDQ, VBMI and VNNI: for each 64 output channels the exact sums of all tokens of a task, then their
// epilogue.
#include "x86_avx512_epilogue.h"
#include "x86_avx512_find_levels.h"
#include "x86_avx512_lut.h"
#include "x86_avx512_xnor.h"

namespace bebert {

namespace {

// The larger of the two layouts: whose code type it is, is not asked.
size_t interleaved_bytes(int64_t n, int64_t k) {
  const int64_t bits = kChannelBlock * packed_row_bytes(k), tables = lut_block_bytes(k);
  return static_cast<size_t>(padded_channels(n) / kChannelBlock * (bits > tables ? bits : tables));
}

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  if (by_bits(input)) {
    interleave_words(rows, n, k, out);
  } else {
    interleave_nibbles(rows, n, k, input, out);
  }
}

size_t table_bytes(int64_t k, CodeType input) {
  if (input.width == 1) return 0;
  return static_cast<size_t>(by_bits(input) ? ternary_row_bytes(k) : passes(input) * steps_of_row(k) * kTableBytes);
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* tables) {
  if (by_bits(input)) {
    build_ternary_rows(codes, tokens, k, static_cast<uint8_t*>(tables));
  } else {
    build_nibble_tables(codes, tokens, k, input, static_cast<uint8_t*>(tables));
  }
}

void store(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  choose_epilogue(task)(task, {channel, kChannelBlock, 0, task.tokens, sums});
}

// `product(channel, output_of)` multiplies a block of channels; its sums go to their outputs from registers where that
// is possible.
template <class Product>
void multiply_blocks(const PackedBinaryMatMulTask& task, Product product) {
  const Epilogue epilogue = choose_epilogue(task);
  const int64_t row_bytes = code_row_bytes(task.output, task.n);
  alignas(64) int32_t sums[kTokenBlock][kChannelBlock];
  for (int64_t channel = task.channel_begin; channel < task.channel_end; channel += kChannelBlock) {
    const bool whole = channel + kChannelBlock <= task.n;
    if (whole && task.y) {
      product(channel, [&](int64_t token) {
        return ToFloats{task.scale + channel, task.bias + channel, task.y + token * task.n + channel, task.n};
      });
    } else if (whole && task.zero_begin) {
      product(channel, [&](int64_t token) {
        uint8_t* codes = task.codes_out + token * row_bytes + channel / 8;
        return ToBits{task.zero_begin + channel, task.zero_length + channel, codes, row_bytes};
      });
    } else {
      product(channel, [&](int64_t token) { return ToSums{sums + token}; });
      epilogue(task, {channel, kChannelBlock, 0, task.tokens, sums[0]});
    }
  }
}

template <Codes kCodes>
void multiply_codes(const PackedBinaryMatMulTask& task) {
  multiply_blocks(task, [&](int64_t channel, auto output_of) { multiply_bits<kCodes>(task, channel, output_of); });
}

void multiply(const PackedBinaryMatMulTask& task) {
  if (!by_bits(task.input)) {
    multiply_blocks(task, [&](int64_t channel, auto output_of) { multiply_tables(task, channel, output_of); });
  } else if (task.input.width == 8) {
    multiply_codes<Codes::ternary>(task);
  } else if (task.input.low < 0) {
    multiply_codes<Codes::sign>(task);
  } else {
    multiply_codes<Codes::boolean>(task);
  }
}

size_t level_bytes(int64_t n, int64_t k, CodeType input, CodeType output, Activation activation) {
  // To search among 16 levels takes as long as float arithmetic without GELU.
  const int most = activation == Activation::gelu ? kMostThresholds : 3;
  const bool few_levels = output.width == 8 && output.high - output.low <= most;
  // Thresholds lie between one below the least sum and one above the largest.
  if (!few_levels || largest_sum(k, input) > INT16_MAX - 2) return 0;
  return static_cast<size_t>(level_blocks(n)) * sizeof(LevelThresholds);
}

int64_t find_levels(const PackedBinaryMatMulTask& task, void* levels) {
  LevelThresholds* blocks = static_cast<LevelThresholds*>(levels);
  switch (task.activation) {
    case Activation::relu:
      return find_levels<Activation::relu>(task, blocks);
    case Activation::gelu:
      return find_levels<Activation::gelu>(task, blocks);
    case Activation::none:
      break;
  }
  return find_levels<Activation::none>(task, blocks);
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_x86_avx512 = {
    interleaved_bytes, interleave, table_bytes, build_tables, multiply, store, level_bytes, find_levels};

}  // namespace bebert

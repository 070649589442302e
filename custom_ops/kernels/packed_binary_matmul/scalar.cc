// SPDX-License-Identifier: Apache-2.0
// The path of every CPU. Weights stay in rows. Codes of width 1 are multiplied by counting bits; those of width 8 as
// int16, against a run of weights that is unpacked once for all tokens of the task: plain loops that compilers turn
// into what vector instructions the baseline has.
#include <string.h>

#include "../arithmetic.h"
#include "kernel.h"

namespace bebert {

namespace {

// Without the popcnt instruction, which is not in the baseline: counts of 2, 4, 8 bits, then their sum in the top byte.
int32_t count_bits(uint64_t x) {
  x = x - ((x >> 1) & 0x5555555555555555u);
  x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int32_t>((x * 0x0101010101010101u) >> 56);
}

// Padding bits are zero on both sides and so count in none of these sums.
int32_t dot_bits(const uint8_t* codes, const uint8_t* weights, int64_t k, CodeType input) {
  const int64_t row_bytes = packed_row_bytes(k);
  int32_t count = 0;
  if (input.low < 0) {  // sign: k minus twice the channels that differ
    for (int64_t b = 0; b < row_bytes; b += 8) count += count_bits(load_word(codes + b) ^ load_word(weights + b));
    return static_cast<int32_t>(k) - 2 * count;
  }
  for (int64_t b = 0; b < row_bytes; b += 8) {
    const uint64_t word = load_word(codes + b);
    count += 2 * count_bits(word & load_word(weights + b)) - count_bits(word);
  }
  return count;
}

// Channels of a row of int16 values: those past k are zero, and their weights change nothing.
int64_t padded_values(int64_t k) { return 8 * packed_row_bytes(k); }

// Weights that are unpacked at a time; rows are padded to multiples of 64.
constexpr int64_t kRun = 256;

void unpack_signs(const uint8_t* bits, int64_t count, int16_t* signs) {
  for (int64_t i = 0; i < count; ++i) signs[i] = static_cast<int16_t>(2 * (bits[i / 8] >> (i % 8) & 1) - 1);
}

int32_t dot_values(const int16_t* values, const int16_t* signs, int64_t count) {
  int32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<int32_t>(values[i]) * signs[i];
  return sum;
}

size_t interleaved_bytes(int64_t n, int64_t k) { return static_cast<size_t>(n * packed_row_bytes(k)); }

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType, uint8_t* out) {
  memcpy(out, rows, interleaved_bytes(n, k));
}

size_t table_bytes(int64_t k, CodeType input) {
  return input.width == 1 ? 0 : static_cast<size_t>(padded_values(k)) * sizeof(int16_t);
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* out) {
  int16_t* values = static_cast<int16_t*>(out);
  for (int64_t t = 0; t < tokens; ++t, codes += k, values += padded_values(k)) {
    for (int64_t c = 0; c < k; ++c) values[c] = static_cast<int16_t>(codes[c] + input.low);
    for (int64_t c = k; c < padded_values(k); ++c) values[c] = 0;
  }
}

// The channels of one block of one token, and the bits of its padding.
void store_codes(const PackedBinaryMatMulTask& task, int64_t token, int64_t begin, int64_t count, float* y) {
  for (int64_t c = 0; c < count; ++c) y[c] = activate(y[c], task.activation);
  const Quantizer quantizer = {task.shift + begin, task.inverse_step + begin, task.output};
  uint8_t* row = task.codes_out + token * code_row_bytes(task.output, task.n);
  quantize_row(y, count, quantizer, row + (task.output.width == 1 ? begin / 8 : begin));
}

// The exact sums of one output channel for every token of the task: sums[t * kChannelBlock].
void multiply_bits(const PackedBinaryMatMulTask& task, int64_t channel, int32_t* sums) {
  const int64_t row_bytes = packed_row_bytes(task.k);
  const uint8_t* weights = task.weights + channel * row_bytes;
  for (int64_t t = 0; t < task.tokens; ++t) {
    sums[t * kChannelBlock] = dot_bits(task.codes + t * row_bytes, weights, task.k, task.input);
  }
}

void multiply_values(const PackedBinaryMatMulTask& task, int64_t channel, int32_t* sums) {
  const uint8_t* weights = task.weights + channel * packed_row_bytes(task.k);
  const int16_t* values = static_cast<const int16_t*>(task.tables);
  const int64_t row = padded_values(task.k);
  int16_t signs[kRun];
  for (int64_t t = 0; t < task.tokens; ++t) sums[t * kChannelBlock] = 0;
  for (int64_t begin = 0; begin < row; begin += kRun) {
    const int64_t count = row - begin < kRun ? row - begin : kRun;
    unpack_signs(weights + begin / 8, count, signs);
    for (int64_t t = 0; t < task.tokens; ++t) {
      sums[t * kChannelBlock] += dot_values(values + t * row + begin, signs, count);
    }
  }
}

void store(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  const int64_t count = task.n - channel < kChannelBlock ? task.n - channel : kChannelBlock;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock) {
    float block[kChannelBlock];
    float* y = task.y ? task.y + t * task.n + channel : block;
    for (int64_t c = 0; c < count; ++c) {
      y[c] = static_cast<float>(sums[c]) * task.scale[channel + c] + task.bias[channel + c];
    }
    if (task.codes_out) store_codes(task, t, channel, count, y);
  }
}

void multiply(const PackedBinaryMatMulTask& task) {
  const auto multiply_channel = task.input.width == 1 ? multiply_bits : multiply_values;
  for (int64_t begin = task.channel_begin; begin < task.channel_end; begin += kChannelBlock) {
    const int64_t end = begin + kChannelBlock < task.channel_end ? begin + kChannelBlock : task.channel_end;
    int32_t sums[kTokenBlock][kChannelBlock];
    for (int64_t c = begin; c < end; ++c) multiply_channel(task, c, &sums[0][c - begin]);
    store(task, begin, sums[0]);
  }
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_scalar = {interleaved_bytes, interleave, table_bytes,
                                                              build_tables,      multiply,   nullptr};

}  // namespace bebert

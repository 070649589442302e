// SPDX-License-Identifier: Apache-2.0
// The path of every CPU. Weights stay in rows. Codes of width 1 are multiplied by counting bits; for codes of width 8
// the 16 signed sums of each four channels are tabulated, and each four bits of weights look one up.
#include <string.h>

#include "../arithmetic.h"
#include "kernel.h"

namespace bebert {

namespace {

uint64_t load_word(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

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

// A table entry is at most 4 * 255 in magnitude.
using Table = int16_t[16];

int64_t tables_of_row(int64_t k) { return 2 * packed_row_bytes(k); }

int32_t dot_tables(const Table* tables, const uint8_t* weights, int64_t k) {
  int32_t sum = 0;
  for (int64_t b = 0; b < packed_row_bytes(k); ++b) {
    sum += tables[2 * b][weights[b] & 15] + tables[2 * b + 1][weights[b] >> 4];
  }
  return sum;
}

size_t interleaved_bytes(int64_t n, int64_t k) { return static_cast<size_t>(n * packed_row_bytes(k)); }

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType, uint8_t* out) {
  memcpy(out, rows, interleaved_bytes(n, k));
}

size_t table_bytes(int64_t k, CodeType input) {
  return input.width == 1 ? 0 : static_cast<size_t>(tables_of_row(k)) * sizeof(Table);
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* out) {
  Table* table = static_cast<Table*>(out);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t group = 0; group < tables_of_row(k); ++group, ++table) {
      int16_t value[4];
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t channel = 4 * group + i;
        value[i] = static_cast<int16_t>(channel < k ? codes[t * k + channel] + input.low : 0);
      }
      for (int bits = 0; bits < 16; ++bits) {
        int sum = 0;
        for (int i = 0; i < 4; ++i) sum += bits >> i & 1 ? value[i] : -value[i];
        (*table)[bits] = static_cast<int16_t>(sum);
      }
    }
  }
}

float activate(float y, Activation activation) {
  if (activation == Activation::none) return y;
  return activation == Activation::relu ? maximum(y, 0.0f) : gelu(y);
}

// The channels of one block of one token, and the bits of its padding.
void store_codes(const PackedBinaryMatMulTask& task, int64_t token, int64_t begin, int64_t count, float* y) {
  for (int64_t c = 0; c < count; ++c) y[c] = activate(y[c], task.activation);
  const Quantizer quantizer = {task.shift + begin, task.inverse_step + begin, task.output};
  uint8_t* row = task.codes_out + token * code_row_bytes(task.output, task.n);
  quantize_row(y, count, quantizer, row + (task.output.width == 1 ? begin / 8 : begin));
}

void multiply(const PackedBinaryMatMulTask& task) {
  const int64_t row_bytes = packed_row_bytes(task.k);
  for (int64_t begin = task.channel_begin; begin < task.channel_end; begin += kChannelBlock) {
    const int64_t count = task.channel_end - begin < kChannelBlock ? task.channel_end - begin : kChannelBlock;
    for (int64_t t = 0; t < task.tokens; ++t) {
      const uint8_t* codes = task.codes + t * code_row_bytes(task.input, task.k);
      const Table* tables = static_cast<const Table*>(task.tables) + t * tables_of_row(task.k);
      float block[kChannelBlock];
      float* y = task.y ? task.y + t * task.n + begin : block;
      for (int64_t c = 0; c < count; ++c) {
        const uint8_t* weights = task.weights + (begin + c) * row_bytes;
        const int32_t sum =
            task.input.width == 1 ? dot_bits(codes, weights, task.k, task.input) : dot_tables(tables, weights, task.k);
        y[c] = static_cast<float>(sum) * task.scale[begin + c] + task.bias[begin + c];
      }
      if (task.codes_out) store_codes(task, t, begin, count, y);
    }
  }
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_scalar = {interleaved_bytes, interleave, table_bytes, build_tables,
                                                              multiply};

}  // namespace bebert

// SPDX-License-Identifier: Apache-2.0
// Code types and their storage: docs/ops.md, "Codes".
//
// Functions in the headers of kernels/ are `static inline`: they are compiled once per CPU path with that path's flags,
// and with external linkage the linker could give the AVX-512 copy to everybody.
#ifndef BEBERT_EDGE_KERNELS_CODES_H_
#define BEBERT_EDGE_KERNELS_CODES_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace bebert {

// Width 1: one bit a channel, value = bit ? high : low. Width 8: one byte a channel, value = low + byte.
struct CodeType {
  int32_t width, low, high;
};

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t count, int64_t multiple) { return divide_up(count, multiple) * multiple; }

static inline int64_t packed_row_bytes(int64_t channels) { return divide_up(channels, 64) * 8; }

static inline int64_t code_row_bytes(CodeType code, int64_t channels) {
  return code.width == 1 ? packed_row_bytes(channels) : channels;
}

static inline uint64_t load_word(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

// A word whose first `count` bits are set: all of them, where it has no more.
static inline uint64_t first_bits(int64_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

// `count` <= 64 bits of a bit-packed row from `channel` on. Rows are whole words.
static inline uint64_t load_bits(const uint8_t* row, int64_t channel, int64_t count) {
  const int64_t offset = channel % 64;
  const uint8_t* bytes = row + channel / 64 * 8;
  uint64_t word = load_word(bytes) >> offset;
  if (offset + count > 64) word |= load_word(bytes + 8) << (64 - offset);
  return word & first_bits(count);
}

// Turns floats into codes. The pointers are at channel 0 of one member.
struct Quantizer {
  const float* shift;
  const float* inverse_step;
  CodeType code;
};

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_CODES_H_

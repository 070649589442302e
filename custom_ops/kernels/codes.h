// SPDX-License-Identifier: Apache-2.0
// Code types and their storage: docs/ops.md, "Codes".
//
// Functions in the headers of kernels/ are `static inline`: they are compiled once per CPU path with that path's flags,
// and with external linkage the linker could give the AVX-512 copy to everybody.
#ifndef BEBERT_EDGE_KERNELS_CODES_H_
#define BEBERT_EDGE_KERNELS_CODES_H_

#include <stddef.h>
#include <stdint.h>

namespace bebert {

// Width 1: one bit a channel, value = bit ? high : low. Width 8: one byte a channel, value = low + byte.
struct CodeType {
  int32_t width, low, high;
};

static inline int64_t packed_row_bytes(int64_t channels) { return (channels + 63) / 64 * 8; }

static inline int64_t code_row_bytes(CodeType code, int64_t channels) {
  return code.width == 1 ? packed_row_bytes(channels) : channels;
}

// Turns floats into codes. The pointers are at channel 0 of one member.
struct Quantizer {
  const float* shift;
  const float* inverse_step;
  CodeType code;
};

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_CODES_H_

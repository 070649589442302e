// SPDX-License-Identifier: Apache-2.0
// Products of bytes by sdot: 16 an instruction, whatever the codes.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_DOTPROD_PRODUCTS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_DOTPROD_PRODUCTS_H_

#include "../arm64_dotprod_quads.h"
#include "arm64_neon_bytes.h"

namespace bebert {
namespace {

struct DotProducts {
  using Element = uint8_t;

  static void convert_row(const uint8_t* bytes, int64_t count, uint8_t* out) {
    memcpy(out, bytes, static_cast<size_t>(count));
  }

  // rows [keys, stride] to [keys / 16, stride / 4, 16 keys, 4 channels].
  static void store_keys(const uint8_t* rows, int64_t keys, int64_t stride, uint8_t* out) {
    for (int64_t j = 0; j < keys; j += 4) {
      uint8_t* to = out + j / 16 * 16 * stride + j % 16 * 4;
      for (int64_t d = 0; d < stride; d += 16, to += 256) {
        uint32x4_t row[4];
        for (int i = 0; i < 4; ++i) row[i] = vreinterpretq_u32_u8(vld1q_u8(rows + (j + i) * stride + d));
        const uint32x4_t even[2] = {vzip1q_u32(row[0], row[2]), vzip2q_u32(row[0], row[2])};
        const uint32x4_t odd[2] = {vzip1q_u32(row[1], row[3]), vzip2q_u32(row[1], row[3])};
        for (int i = 0; i < 2; ++i) {
          vst1q_u8(to + 128 * i, vreinterpretq_u8_u32(vzip1q_u32(even[i], odd[i])));
          vst1q_u8(to + 128 * i + 64, vreinterpretq_u8_u32(vzip2q_u32(even[i], odd[i])));
        }
      }
    }
  }

  // rows [keys, stride] to [stride / 16, keys / 4, 16 channels, 4 keys].
  static void store_values(const uint8_t* rows, int64_t keys, int64_t stride, uint8_t* out) {
    for (int64_t d = 0; d < stride; d += 16) {
      for (int64_t j = 0; j < keys; j += 4, out += 64) {
        const uint8_t* row = rows + j * stride + d;
        const uint8x16x4_t four = {
            {vld1q_u8(row), vld1q_u8(row + stride), vld1q_u8(row + 2 * stride), vld1q_u8(row + 3 * stride)}};
        vst4q_u8(out, four);
      }
    }
  }

  // As Int16Products::multiply.
  static void multiply(const uint8_t* rows, int64_t rows_stride, int64_t length, const uint8_t* columns, int32_t,
                       const int32_t* start, int32_t* out, int64_t out_stride) {
    int32x4_t sums[kRows][4];
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < 4; ++v) sums[t][v] = vld1q_s32(start + 4 * v);
    }
    add_quads(rows, rows_stride, length, columns, sums);
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < 4; ++v) vst1q_s32(out + t * out_stride + 4 * v, sums[t][v]);
    }
  }
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_DOTPROD_PRODUCTS_H_

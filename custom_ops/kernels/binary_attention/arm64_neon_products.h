// SPDX-License-Identifier: Apache-2.0
// Products of bytes with the baseline's instructions, as int16: eight products an instruction while the sums of a head
// fit 16 bits, which those of 4-bit codes do (511 products of two int4, 273 of uint4 and int4), else four.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_PRODUCTS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_PRODUCTS_H_

#include "arm64_neon_bytes.h"

namespace bebert {
namespace {

// mla by a lane of a register of the row: eight products.
template <int kLane>
inline void add_products(const int16x8_t (&row)[kRows], const int16_t* column, int16x8_t (&sums)[kRows][2]) {
  const int16x8_t low = vld1q_s16(column + kColumns * kLane), high = vld1q_s16(column + kColumns * kLane + 8);
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) {
    sums[t][0] = vmlaq_laneq_s16(sums[t][0], low, row[t], kLane);
    sums[t][1] = vmlaq_laneq_s16(sums[t][1], high, row[t], kLane);
  }
}

// The same with sums of 32 bits: four products.
template <int kLane>
inline void add_products(const int16x8_t (&row)[kRows], const int16_t* column, int32x4_t (&sums)[kRows][4]) {
  const int16x8_t low = vld1q_s16(column + kColumns * kLane), high = vld1q_s16(column + kColumns * kLane + 8);
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) {
    sums[t][0] = vmlal_laneq_s16(sums[t][0], vget_low_s16(low), row[t], kLane);
    sums[t][1] = vmlal_high_laneq_s16(sums[t][1], low, row[t], kLane);
    sums[t][2] = vmlal_laneq_s16(sums[t][2], vget_low_s16(high), row[t], kLane);
    sums[t][3] = vmlal_high_laneq_s16(sums[t][3], high, row[t], kLane);
  }
}

template <class Sums>
inline void add_eight(const int16_t* const (&rows)[kRows], int64_t i, const int16_t* columns, Sums& sums) {
  int16x8_t row[kRows];
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) row[t] = vld1q_s16(rows[t] + i);
  columns += i * kColumns;
  add_products<0>(row, columns, sums);
  add_products<1>(row, columns, sums);
  add_products<2>(row, columns, sums);
  add_products<3>(row, columns, sums);
  add_products<4>(row, columns, sums);
  add_products<5>(row, columns, sums);
  add_products<6>(row, columns, sums);
  add_products<7>(row, columns, sums);
}

struct Int16Products {
  using Element = int16_t;

  static void convert_row(const uint8_t* bytes, int64_t count, int16_t* out) {
    for (int64_t i = 0; i < count; i += 8) vst1q_s16(out + i, vmovl_s8(vreinterpret_s8_u8(vld1_u8(bytes + i))));
  }

  // rows [keys, stride] to [keys / 16, stride, 16]: blocks of 16 by 16 bytes are transposed by four perfect shuffles of
  // the rows.
  static void store_keys(const uint8_t* rows, int64_t keys, int64_t stride, int16_t* out) {
    for (int64_t j = 0; j < keys; j += 16) {
      for (int64_t d = 0; d < stride; d += 16, out += 256) {
        uint8x16_t row[16], shuffled[16];
        for (int i = 0; i < 16; ++i) row[i] = vld1q_u8(rows + (j + i) * stride + d);
        for (int round = 0; round < 4; ++round) {
          for (int i = 0; i < 8; ++i) {
            shuffled[2 * i] = vzip1q_u8(row[i], row[i + 8]);
            shuffled[2 * i + 1] = vzip2q_u8(row[i], row[i + 8]);
          }
          for (int i = 0; i < 16; ++i) row[i] = shuffled[i];
        }
        for (int i = 0; i < 16; ++i) {
          const int8x16_t bytes = vreinterpretq_s8_u8(row[i]);
          vst1q_s16(out + 16 * i, vmovl_s8(vget_low_s8(bytes)));
          vst1q_s16(out + 16 * i + 8, vmovl_high_s8(bytes));
        }
      }
    }
  }

  // rows [keys, stride] to [stride / 16, keys, 16].
  static void store_values(const uint8_t* rows, int64_t keys, int64_t stride, int16_t* out) {
    for (int64_t d = 0; d < stride; d += 16) {
      for (int64_t j = 0; j < keys; ++j, out += 16) convert_row(rows + j * stride + d, 16, out);
    }
  }

  // out[t][c] = start[c] + sum over i of rows[t][i] * columns[i][c], for 16 columns. `most` bounds the magnitude of a
  // product; `length` is a multiple of 16.
  static void multiply(const int16_t* rows, int64_t rows_stride, int64_t length, const int16_t* columns, int32_t most,
                       const int32_t* start, int32_t* out, int64_t out_stride) {
    const int16_t* row[kRows];
    for (int t = 0; t < kRows; ++t) row[t] = rows + t * rows_stride;
    int32x4_t sums[kRows][4];
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < 4; ++v) sums[t][v] = vld1q_s32(start + 4 * v);
    }
    const int64_t period = INT16_MAX / most / 8 * 8;
    if (period < 32) {
      for (int64_t i = 0; i < length; i += 8) add_eight(row, i, columns, sums);
    } else {
      for (int64_t begin = 0; begin < length; begin += period) {
        int16x8_t narrow_sums[kRows][2];
        BEBERT_UNROLL
        for (int t = 0; t < kRows; ++t) narrow_sums[t][0] = narrow_sums[t][1] = vdupq_n_s16(0);
        const int64_t end = smaller(begin + period, length);
        for (int64_t i = begin; i < end; i += 8) add_eight(row, i, columns, narrow_sums);
        BEBERT_UNROLL
        for (int t = 0; t < kRows; ++t) {
          BEBERT_UNROLL
          for (int v = 0; v < 2; ++v) {
            sums[t][2 * v] = vaddw_s16(sums[t][2 * v], vget_low_s16(narrow_sums[t][v]));
            sums[t][2 * v + 1] = vaddw_high_s16(sums[t][2 * v + 1], narrow_sums[t][v]);
          }
        }
      }
    }
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < 4; ++v) vst1q_s32(out + t * out_stride + 4 * v, sums[t][v]);
    }
  }
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_PRODUCTS_H_

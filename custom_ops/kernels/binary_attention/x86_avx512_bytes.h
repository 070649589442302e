// SPDX-License-Identifier: Apache-2.0
// Attention on bytes: vpdpbusd adds four products of an unsigned byte (level of a query or probability) and a signed
// byte (key or value) to an int32. Sums of up to kMaximumKeys or kMaximumChannels products of 255 * 128 fit.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BYTES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BYTES_H_

#include "x86_avx512_codes.h"

namespace bebert {
namespace {

// More are left to the scalar path.
constexpr int64_t kMaximumKeys = 32768, kMaximumChannels = 8192;

inline int32_t load_int32(const uint8_t* bytes) {
  int32_t value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

// Rows of signed bytes, read from codes where these are whole rows of bytes, otherwise from a copy.
struct ByteRows {
  const uint8_t* rows;
  int64_t stride;
  __m512i add;
};

// Sixteen rows from `first` on; `copy` is where they go if need be, [16, stride] and kUnpackExcess.
inline ByteRows signed_rows(const HeadCodes& codes, CodeType code, int64_t first, int64_t head_size, int64_t stride,
                            uint8_t* copy) {
  const ByteMap map = signed_bytes(code);
  const uint8_t* rows = codes.rows + first * codes.row_bytes;
  if (code.width == 8 && head_size == stride && first + 16 <= codes.count) {
    return {rows + codes.channel, codes.row_bytes, _mm512_set1_epi8(static_cast<char>(map.add))};
  }
  unpack({rows, codes.row_bytes, codes.count - first, codes.channel}, code, map, head_size, stride, 16, copy);
  return {copy, stride, _mm512_setzero_si512()};
}

// Sixteen rows to [channels / 4, 16 keys, 4 channels]; channels is a multiple of 16.
inline void transpose_keys(const ByteRows& from, int64_t channels, uint8_t* out) {
  for (int64_t d = 0; d < channels; d += 16, out += 256) {
    __m512i row[4];  // lane i of row[r]: row 4 i + r
    BEBERT_UNROLL
    for (int r = 0; r < 4; ++r) {
      const auto lane = [&from, d, r](int i) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from.rows + (4 * i + r) * from.stride + d));
      };
      __m512i lanes = _mm512_inserti32x4(_mm512_castsi128_si512(lane(0)), lane(1), 1);
      lanes = _mm512_inserti32x4(lanes, lane(2), 2);
      row[r] = _mm512_add_epi8(_mm512_inserti32x4(lanes, lane(3), 3), from.add);
    }
    const __m512i low01 = _mm512_unpacklo_epi32(row[0], row[1]), high01 = _mm512_unpackhi_epi32(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(row[2], row[3]), high23 = _mm512_unpackhi_epi32(row[2], row[3]);
    _mm512_store_si512(out, _mm512_unpacklo_epi64(low01, low23));
    _mm512_store_si512(out + 64, _mm512_unpackhi_epi64(low01, low23));
    _mm512_store_si512(out + 128, _mm512_unpacklo_epi64(high01, high23));
    _mm512_store_si512(out + 192, _mm512_unpackhi_epi64(high01, high23));
  }
}

// Sixteen rows to [4, channels, 4 keys]; channels is a multiple of 32.
inline void transpose_values(const ByteRows& from, int64_t channels, uint8_t* out) {
  // Byte 4 d + r: byte d of row r. Rows 0 and 1 are the halves of the first table, 2 and 3 of the second.
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i first =
      _mm512_add_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(0x01010101)), _mm512_set1_epi32(0x60402000));
  const __m512i second = _mm512_add_epi8(first, _mm512_set1_epi8(16));
  for (int64_t i = 0; i < 16; i += 4) {
    for (int64_t d = 0; d < channels; d += 32, out += 128) {
      const auto half = [&from, i, d](int r) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.rows + (i + r) * from.stride + d));
      };
      const __m512i low = _mm512_inserti64x4(_mm512_castsi256_si512(half(0)), half(1), 1);
      const __m512i high = _mm512_inserti64x4(_mm512_castsi256_si512(half(2)), half(3), 1);
      _mm512_store_si512(out, _mm512_add_epi8(_mm512_permutex2var_epi8(low, first, high), from.add));
      _mm512_store_si512(out + 64, _mm512_add_epi8(_mm512_permutex2var_epi8(low, second, high), from.add));
    }
  }
}

// For kRows rows of bytes and `blocks` blocks of 16 columns, an even number, which are `block_stride` bytes apart,
// calls use(row, block, sums): sum c is start[16 * block + c] + sum over i of bytes[row][i] * columns[i / 4][16 * block
// + c][i % 4]. `length` is a multiple of 4.
struct ByteProduct {
  const uint8_t* bytes;
  int64_t bytes_stride, length;
  const uint8_t* columns;
  int64_t column_stride, block_stride, blocks;
  const int32_t* start;

  template <class Use>
  void run(Use use) const {
    int64_t block = 0;
    for (; block + 4 <= blocks; block += 4) {
      for (int row = 0; row < kRows; row += 4) tile<4, 4>(row, block, use);
    }
    if (block < blocks) tile<kRows, 2>(0, block, use);
  }

 private:
  template <int kTile, int kVectors, class Use>
  void tile(int row, int64_t block, Use use) const {
    const int32_t* first = start + 16 * block;
    __m512i sums[kVectors][kTile];
    BEBERT_UNROLL
    for (int b = 0; b < kVectors; ++b) {
      BEBERT_UNROLL
      for (int t = 0; t < kTile; ++t) sums[b][t] = _mm512_load_si512(first + 16 * b);
    }
    const uint8_t* step = columns + block * block_stride;
    const uint8_t* row_bytes = bytes + row * bytes_stride;
    for (int64_t i = 0; i < length; i += 4, step += column_stride) {
      __m512i column[kVectors];
      BEBERT_UNROLL
      for (int b = 0; b < kVectors; ++b) {
        column[b] = _mm512_load_si512(step + b * block_stride);
        BEBERT_KEEP(column[b]);
      }
      BEBERT_UNROLL
      for (int t = 0; t < kTile; ++t) {
        const __m512i four = _mm512_set1_epi32(load_int32(row_bytes + t * bytes_stride + i));
        BEBERT_UNROLL
        for (int b = 0; b < kVectors; ++b) {
          sums[b][t] = _mm512_dpbusd_epi32(sums[b][t], four, column[b]);
          BEBERT_KEEP(sums[b][t]);
        }
      }
    }
    BEBERT_UNROLL
    for (int b = 0; b < kVectors; ++b) {
      BEBERT_UNROLL
      for (int t = 0; t < kTile; ++t) use(row + t, block + b, sums[b][t]);
    }
  }
};

// out[c] = factor * (sum of the signed bytes of column c), for the columns of multiply_bytes.
inline void sum_columns(const uint8_t* columns, int64_t length, int64_t column_stride, int32_t factor, int32_t* out) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < length && factor != 0; i += 4, columns += column_stride) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_load_si512(columns));
  }
  _mm512_store_si512(out, _mm512_mullo_epi32(sum, _mm512_set1_epi32(factor)));
}

inline int32_t sum_bytes(const uint8_t* bytes, int64_t count) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 64) {
    const __m512i part = _mm512_maskz_loadu_epi8(first_bytes(count - i), bytes + i);
    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(part, _mm512_setzero_si512()));
  }
  return static_cast<int32_t>(_mm512_reduce_add_epi64(sum));
}

// The same without softmax: 1 where score + constant is positive.
inline void boolean_bytes(const int32_t* scores, int64_t keys, int32_t constant, uint8_t* row) {
  for (int64_t j = 0; j < keys; j += 16) {
    const __m512i score = _mm512_add_epi32(_mm512_load_si512(scores + j), _mm512_set1_epi32(constant));
    const __mmask16 positive = _mm512_cmpgt_epi32_mask(score, _mm512_setzero_si512());
    _mm_store_si128(reinterpret_cast<__m128i*>(row + j), _mm_maskz_set1_epi8(positive, 1));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BYTES_H_

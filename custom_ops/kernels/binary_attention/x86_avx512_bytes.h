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

// Vectors whose exponentials are computed together.
constexpr int kInterleaved = 4;

// fixed_exp (docs/ops.md) of differences of scores, in fewer operations with the same results.
class ScoreExponential {
 public:
  // Where the scale is above 64, the exponential of any difference but 0 is zero, as it is for 64.
  explicit ScoreExponential(float score_scale) : scale_(_mm512_set1_ps(score_scale < 64.0f ? score_scale : 64.0f)) {
    // fixed_exp is zero for u <= -18. A difference below `lowest` may be replaced by it: u is then between -20 - 64 *
    // log2(e) and -20, where 2^n is a normal number.
    const float steps = 20.0f / ((score_scale < 64.0f ? score_scale : 64.0f) * kLog2e);
    lowest_ = -1 - static_cast<int32_t>(steps < 1e9f ? steps : 1e9f);
  }

  int32_t lowest() const { return lowest_; }

  // Differences, >= lowest, become 2^23 + their exponentials. The steps of several vectors take turns, as each would
  // wait for the one before it.
  template <int kVectors>
  void operator()(const __m512i (&differences)[kVectors], __m512 (&e)[kVectors]) const {
    // The sum with 1.5 * 2^23 rounds to an even integer as rne does, and leaves n + 142 in the lowest bits.
    const __m512 shifter = _mm512_set1_ps(12582912.0f + 142.0f);
    __m512 shifted[kVectors], f[kVectors], m[kVectors];
    const auto each = [](__m512(&x)[kVectors], auto value) {
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        x[v] = value(v);
        BEBERT_KEEP(x[v]);  // or the compiler would finish one vector before the next
      }
    };
    const auto horner = [&](float c) { each(m, [&](int v) { return multiply_add(m[v], f[v], c); }); };
    each(f, [&](int v) { return _mm512_mul_ps(_mm512_cvtepi32_ps(differences[v]), scale_); });
    each(f, [&](int v) { return _mm512_mul_ps(f[v], _mm512_set1_ps(kLog2e)); });
    each(shifted, [&](int v) { return _mm512_add_ps(f[v], shifter); });
    // f = u - n; half of the subtractions as fused ones, which use the units of multiplication.
    each(f, [&](int v) { return _mm512_fmsub_ps(f[v], _mm512_set1_ps(1.0f), _mm512_sub_ps(shifted[v], shifter)); });
    each(m, [&](int v) { return multiply_add(_mm512_set1_ps(0.001326472731307149f), f[v], 0.009671512991189957f); });
    horner(0.05550733581185341f);
    horner(0.24022242426872253f);
    horner(0.6931470036506653f);
    horner(1.0f);
    // 2^(15 + n), with which the product is exact; the sum with 2^23 rounds it to an integer.
    each(e, [&](int v) {
      const __m512 power = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(shifted[v]), 23));
      return _mm512_fmadd_ps(m[v], power, _mm512_set1_ps(8388608.0f));
    });
  }

 private:
  static constexpr float kLog2e = 1.4426950408889634f;
  __m512 scale_;
  int32_t lowest_;
};

// What softmax needs of kRows queries.
struct ScoreRows {
  int32_t* scores;  // [kRows, stride]
  int64_t keys, stride;
  alignas(64) int64_t largest[kRows];
  float r[kRows];

  // From sixteen lanes a query.
  void reduce_largest(const __m512i (&lanes)[kRows]) {
    const auto most = [](__m512i a, __m512i b) { return _mm512_max_epi32(a, b); };
    const __m512i words = reduce_words(lanes, most);
    _mm512_store_si512(largest, most(words, _mm512_srli_epi64(words, 32)));
  }

  // Scores become 2^23 + their exponentials, and r is set. The sum of at most kMaximumKeys exponentials of 2^15 is
  // below 2^31.
  void exponentiate(const ScoreExponential& exponential, float probability_inverse_step) {
    const __m512i lowest = _mm512_set1_epi32(exponential.lowest());
    __m512i sums[kRows];
    for (int first = 0; first < kRows; first += kInterleaved) {
      for (int t = first; t < first + kInterleaved; ++t) sums[t] = _mm512_setzero_si512();
      for (int64_t j = 0; j < keys; j += 16) {
        __m512i differences[kInterleaved];
        __m512 e[kInterleaved];
        BEBERT_UNROLL
        for (int t = 0; t < kInterleaved; ++t) {
          const __m512i most_of_row = _mm512_set1_epi32(static_cast<int32_t>(largest[first + t]));
          differences[t] = _mm512_sub_epi32(_mm512_load_si512(scores + (first + t) * stride + j), most_of_row);
          differences[t] = _mm512_max_epi32(differences[t], lowest);
        }
        exponential(differences, e);
        if (j + 16 > keys) {
          for (__m512& part : e) part = _mm512_mask_mov_ps(_mm512_set1_ps(8388608.0f), first_lanes(keys - j), part);
        }
        BEBERT_UNROLL
        for (int t = 0; t < kInterleaved; ++t) {
          _mm512_store_ps(scores + (first + t) * stride + j, e[t]);
          sums[first + t] = _mm512_add_epi32(sums[first + t], _mm512_castps_si512(e[t]));
        }
      }
    }
    // The bits of 2^23 + e are those of 2^23 plus e. Sums wrap around.
    const uint32_t excess = 0x4b000000u * static_cast<uint32_t>(round_up(keys, 16));
    __m512i total = reduce_words(sums, [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
    total = _mm512_add_epi32(total, _mm512_srli_epi64(total, 32));
    inverse_sums(_mm512_sub_epi32(total, _mm512_set1_epi32(static_cast<int32_t>(excess))), probability_inverse_step, r);
  }

  // Probabilities as level bytes, [kRows, stride], where z is in 0 .. 2^30.
  void quantize(CodeType code, uint8_t* rows) const {
    const CodeRange range(code);
    const __m512i high = _mm512_set1_epi8(static_cast<char>(code.high));
    const __m512i low = _mm512_set1_epi8(static_cast<char>(code.low));
    const __m512i step = _mm512_set1_epi8(static_cast<char>(code.high - code.low));
    // Packing leaves the four int32 of lane i of vector v at lane v of lane i.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int t = 0; t < kRows; ++t) {
      // e * r in one rounding: both products are exact before the sum.
      const __m512 factor = _mm512_set1_ps(r[t]), offset = _mm512_set1_ps(-8388608.0f * r[t]);
      for (int64_t j = 0; j < keys; j += 64) {
        const int32_t* e = scores + t * stride + j;
        const auto z = [&](int v) {
          return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_load_si512(e + 16 * v)), factor, offset);
        };
        __m512i levels;
        if (code.width == 8) {
          const __m512i low01 = _mm512_packs_epi32(_mm512_cvtps_epi32(z(0)), _mm512_cvtps_epi32(z(1)));
          const __m512i high01 = _mm512_packs_epi32(_mm512_cvtps_epi32(z(2)), _mm512_cvtps_epi32(z(3)));
          const __m512i packed = _mm512_min_epu8(_mm512_packus_epi16(low01, high01), high);
          levels = _mm512_permutexvar_epi32(order, _mm512_sub_epi8(packed, low));
        } else {
          uint64_t bits = 0;
          for (int v = 0; v < 4; ++v) bits |= static_cast<uint64_t>(range.bits(0xffff, z(v))) << (16 * v);
          levels = _mm512_maskz_mov_epi8(bits, step);
        }
        _mm512_store_si512(rows + t * stride + j, levels);
      }
    }
  }

  // The same for any z.
  void quantize_any(CodeType code, uint8_t* rows) const {
    const CodeRange range(code);
    const __m128i step = _mm_set1_epi8(static_cast<char>(code.high - code.low));
    for (int t = 0; t < kRows; ++t) {
      for (int64_t j = 0; j < keys; j += 16) {
        const __m512 shifted = _mm512_castsi512_ps(_mm512_load_si512(scores + t * stride + j));
        const __m512 z = _mm512_mul_ps(_mm512_sub_ps(shifted, _mm512_set1_ps(8388608.0f)), _mm512_set1_ps(r[t]));
        const __m128i levels =
            code.width == 8 ? _mm512_cvtepi32_epi8(range.levels(z)) : _mm_maskz_mov_epi8(range.bits(0xffff, z), step);
        _mm_store_si128(reinterpret_cast<__m128i*>(rows + t * stride + j), levels);
      }
    }
  }
};

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

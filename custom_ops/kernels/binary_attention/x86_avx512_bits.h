// SPDX-License-Identifier: Apache-2.0
// Attention on codes of width 1 by counting bits, 64 keys a vector.
//
// Keys are stored as planes of bytes: plane p holds channels 8 p .. 8 p + 7 of 64 keys, so that counts of all channels
// add up in one byte a key. A score then takes one of head_size + 1 values: exponentials and probabilities come from
// tables. Values are stored as planes of bits: one word a channel with one bit a key.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BITS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BITS_H_

#include "x86_avx512_codes.h"

namespace bebert {
namespace {

// Two vectors of bytes, the table of vpermi2b.
constexpr int64_t kTableSize = 128;

// Keys that are counted together.
constexpr int64_t kBitKeys = 128;

inline int64_t planes(int64_t head_size) { return (head_size + 7) / 8; }

// [keys / 64, planes, 64]; keys after the last are zero.
inline void store_byte_planes(const HeadCodes& codes, int64_t head_size, int64_t padded_keys, uint8_t* out) {
  const int64_t plane_count = planes(head_size);
  // Byte 8 p + i is byte p of word i.
  const __m512i first = _mm512_set1_epi64(0x3830282018100800), one = _mm512_set1_epi8(1);
  const __m512i gather = _mm512_add_epi8(first, _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), one));
  for (int64_t j = 0; j < padded_keys; j += 64, out += plane_count * 64) {
    for (int64_t d = 0; d < head_size; d += 64) {
      const int64_t channels = smaller(64, head_size - d);
      for (int64_t i = 0; i < 64; i += 8) {
        alignas(64) uint64_t words[8] = {};
        const uint8_t* row = codes.rows + (j + i) * codes.row_bytes;
        for (int64_t r = 0; r < smaller(8, codes.count - j - i); ++r, row += codes.row_bytes) {
          words[r] = load_bits(row, codes.channel + d, channels);
        }
        alignas(64) uint64_t bytes[8];
        _mm512_store_si512(bytes, _mm512_permutexvar_epi8(gather, _mm512_load_si512(words)));
        for (int64_t p = 0; p < planes(channels); ++p) memcpy(out + (d / 8 + p) * 64 + i, &bytes[p], sizeof(bytes[p]));
      }
    }
  }
}

// [keys / 64, planes * 8] words. `byte_planes` is scratch of padded_keys * planes bytes.
inline void store_bit_planes(const HeadCodes& codes, int64_t head_size, int64_t padded_keys, uint8_t* byte_planes,
                             uint64_t* out) {
  store_byte_planes(codes, head_size, padded_keys, byte_planes);
  for (int64_t p = 0; p < padded_keys / 64 * planes(head_size); ++p, out += 8) {
    __m512i plane = _mm512_load_si512(byte_planes + p * 64);
    for (int bit = 7; bit >= 0; --bit) {  // the sign bits of the bytes, from the most significant bit down
      out[bit] = _mm512_movepi8_mask(plane);
      plane = _mm512_add_epi8(plane, plane);
    }
  }
}

inline uint8_t smallest_byte(__m512i bytes) {
  const __m256i half = _mm256_min_epu8(_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64(bytes, 1));
  const __m128i quarter = _mm_min_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __m128i words = _mm_minpos_epu16(_mm_min_epu8(quarter, _mm_srli_epi16(quarter, 8)));
  return static_cast<uint8_t>(_mm_cvtsi128_si32(words));
}

// Distances of kRows queries from all keys, as bytes: channels that differ (sign), or head_size minus channels that are
// one in both (bool). dot = head_size - step * distance, with step 2 or 1. Keys after the last have distance 255.
// queries: [kRows, 16]; out: [kRows, stride]; planes and out are padded to kBitKeys keys.
template <bool kSign>
inline void distances(const uint8_t* queries, const uint8_t* key_planes, int64_t head_size, int64_t keys,
                      int64_t stride, uint8_t* out, uint8_t* smallest) {
  const int64_t plane_count = planes(head_size);
  const __m512i most = _mm512_set1_epi8(static_cast<char>(head_size)), all = _mm512_set1_epi8(-1);
  __m512i least[kRows] = {all, all, all, all};
  for (int64_t j = 0; j < keys; j += kBitKeys, key_planes += kBitKeys * plane_count) {
    __m512i sums[kRows][2];
    for (int t = 0; t < kRows; ++t) sums[t][0] = sums[t][1] = _mm512_setzero_si512();
    for (int64_t p = 0; p < plane_count; ++p) {
      const __m512i key[2] = {_mm512_load_si512(key_planes + p * 64),
                              _mm512_load_si512(key_planes + (plane_count + p) * 64)};
      for (int t = 0; t < kRows; ++t) {
        const __m512i byte = _mm512_set1_epi8(static_cast<char>(queries[t * 16 + p]));
        for (int b = 0; b < 2; ++b) {
          const __m512i bits = kSign ? _mm512_xor_si512(byte, key[b]) : _mm512_and_si512(byte, key[b]);
          sums[t][b] = _mm512_add_epi8(sums[t][b], _mm512_popcnt_epi8(bits));
        }
      }
    }
    for (int b = 0; b < 2; ++b) {
      const int64_t left = keys - j - 64 * b;
      const __mmask64 lanes = first_bytes(left > 0 ? left : 0);
      for (int t = 0; t < kRows; ++t) {
        const __m512i distance = kSign ? sums[t][b] : _mm512_sub_epi8(most, sums[t][b]);
        const __m512i known = _mm512_mask_mov_epi8(all, lanes, distance);
        _mm512_store_si512(out + t * stride + j + 64 * b, known);
        least[t] = _mm512_min_epu8(least[t], known);
      }
    }
  }
  for (int t = 0; t < kRows; ++t) smallest[t] = smallest_byte(least[t]);
}

inline __m512i look_up(__mmask64 lanes, __m512i index, const uint8_t* table) {
  return _mm512_maskz_permutex2var_epi8(lanes, _mm512_load_si512(table), index, _mm512_load_si512(table + 64));
}

// fixed_exp of every distance beyond the smallest.
struct alignas(64) ExponentialTable {
  float values[kTableSize];
  uint8_t low[kTableSize], high[kTableSize];  // the two bytes; 32768 fits

  void fill(int32_t step, float score_scale) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 scale = _mm512_set1_ps(score_scale);
    for (int i = 0; i < kTableSize; i += 16) {
      const __m512i index = _mm512_add_epi32(lane, _mm512_set1_epi32(i));
      const __m512i difference = _mm512_mullo_epi32(index, _mm512_set1_epi32(-step));
      const __m512i e = fixed_exp(_mm512_mul_ps(_mm512_cvtepi32_ps(difference), scale));
      _mm512_store_ps(values + i, _mm512_cvtepi32_ps(e));
      _mm_store_si128(reinterpret_cast<__m128i*>(low + i), _mm512_cvtepi32_epi8(e));
      _mm_store_si128(reinterpret_cast<__m128i*>(high + i), _mm512_cvtepi32_epi8(_mm512_srli_epi32(e, 8)));
    }
  }
};

// Distances of kRows queries, in place, to probabilities as level bytes; zero for keys after the last. keys > 0. Each
// step is done for all queries, so that one need not wait for the other.
inline void softmax_bits(const ExponentialTable& exponentials, const uint8_t* smallest, int64_t head_size, int64_t keys,
                         float probability_inverse_step, CodeType code, int64_t stride, uint8_t* rows) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i least[kRows];
  float r[kRows];
  for (int t = 0; t < kRows; ++t) {
    least[t] = _mm512_set1_epi8(static_cast<char>(smallest[t]));
    __m512i low = zero, high = zero;
    for (int64_t j = 0; j < keys; j += 64) {
      const __m512i index = _mm512_sub_epi8(_mm512_load_si512(rows + t * stride + j), least[t]);
      const __mmask64 lanes = first_bytes(keys - j);
      low = _mm512_add_epi64(low, _mm512_sad_epu8(look_up(lanes, index, exponentials.low), zero));
      high = _mm512_add_epi64(high, _mm512_sad_epu8(look_up(lanes, index, exponentials.high), zero));
    }
    const int64_t sum = _mm512_reduce_add_epi64(_mm512_add_epi64(low, _mm512_slli_epi64(high, 8)));
    r[t] = probability_inverse_step / static_cast<float>(sum);
  }

  alignas(64) uint8_t probabilities[kRows][kTableSize];
  const CodeRange range(code);
  const __m128i one = _mm_set1_epi8(static_cast<char>(code.high - code.low));
  for (int t = 0; t < kRows; ++t) {
    for (int64_t i = 0; i <= head_size; i += 16) {
      const __m512 z = _mm512_mul_ps(_mm512_load_ps(exponentials.values + i), _mm512_set1_ps(r[t]));
      const __m128i levels =
          code.width == 8 ? _mm512_cvtepi32_epi8(range.levels(z)) : _mm_maskz_mov_epi8(range.bits(0xffff, z), one);
      _mm_store_si128(reinterpret_cast<__m128i*>(probabilities[t] + i), levels);
    }
  }
  for (int t = 0; t < kRows; ++t) {
    for (int64_t j = 0; j < keys; j += 64) {
      uint8_t* row = rows + t * stride + j;
      const __m512i index = _mm512_sub_epi8(_mm512_load_si512(row), least[t]);
      _mm512_store_si512(row, look_up(first_bytes(keys - j), index, probabilities[t]));
    }
  }
}

// The same without softmax: 1 where the score is positive.
inline void boolean_bits(int64_t step, int64_t head_size, int64_t keys, uint8_t* row) {
  // dot > 0: distance < head_size / step.
  const __m512i most = _mm512_set1_epi8(static_cast<char>((head_size + step - 1) / step - 1));
  for (int64_t j = 0; j < keys; j += 64) {
    const __mmask64 lanes = first_bytes(keys - j);
    const __mmask64 positive = _mm512_mask_cmple_epu8_mask(lanes, _mm512_load_si512(row + j), most);
    _mm512_store_si512(row + j, _mm512_maskz_set1_epi8(positive, 1));
  }
}

// ctx[d] of kRows queries for bool probabilities: low * pop(p) + (high - low) * pop(p & v). high - low is 1 or 2.
// rows: [kRows, stride]; bits: scratch of as many words as there are in a row, for each row; context: [kRows,
// out_stride].
inline void context_bits(const uint8_t* rows, int64_t stride, const uint64_t* value_planes, int64_t head_size,
                         int64_t keys, CodeType value, uint64_t* bits, int32_t* context, int64_t out_stride) {
  const int64_t words = (keys + 63) / 64;
  __m256i offset[kRows];
  for (int t = 0; t < kRows; ++t) {
    int64_t ones = 0;
    for (int64_t w = 0; w < words; ++w) {
      const __m512i bytes = _mm512_load_si512(rows + t * stride + 64 * w);
      bits[w * kRows + t] = _mm512_test_epi8_mask(bytes, bytes);
      ones += _mm_popcnt_u64(bits[w * kRows + t]);
    }
    offset[t] = _mm256_set1_epi32(static_cast<int32_t>(ones) * value.low);
  }
  const int64_t channels = planes(head_size) * 8;
  for (int64_t d = 0; d < channels; d += 8) {
    __m512i sums[kRows];
    for (int t = 0; t < kRows; ++t) sums[t] = _mm512_setzero_si512();
    for (int64_t w = 0; w < words; ++w) {
      const __m512i plane = _mm512_load_si512(value_planes + w * channels + d);
      for (int t = 0; t < kRows; ++t) {
        const __m512i word = _mm512_set1_epi64(static_cast<int64_t>(bits[w * kRows + t]));
        sums[t] = _mm512_add_epi64(sums[t], _mm512_popcnt_epi64(_mm512_and_si512(word, plane)));
      }
    }
    for (int t = 0; t < kRows; ++t) {
      const __m256i count = _mm512_cvtepi64_epi32(sums[t]);
      const __m256i product = value.low < 0 ? _mm256_add_epi32(count, count) : count;
      _mm256_store_si256(reinterpret_cast<__m256i*>(context + t * out_stride + d),
                         _mm256_add_epi32(product, offset[t]));
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BITS_H_

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

inline int64_t planes(int64_t head_size) { return (head_size + 7) / 8; }

// [keys / 64, planes, 64]; keys after the last are zero.
inline void store_byte_planes(const HeadCodes& codes, int64_t head_size, int64_t padded_keys, uint8_t* out) {
  const int64_t plane_count = planes(head_size);
  for (int64_t j = 0; j < padded_keys; ++j) {
    uint8_t* to = out + j / 64 * plane_count * 64 + j % 64;
    for (int64_t d = 0; d < head_size; d += 64) {
      const int64_t count = smaller(64, head_size - d);
      uint64_t word = j < codes.count ? load_bits(codes.rows + j * codes.row_bytes, codes.channel + d, count) : 0;
      for (int64_t p = d / 8; p < (d + count + 7) / 8; ++p, word >>= 8) to[p * 64] = static_cast<uint8_t>(word);
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

// Distances of one query from all keys, as bytes: channels that differ (sign), or head_size minus channels that are one
// in both (bool). dot = head_size - step * distance, with step 2 or 1. Keys after the last have distance 255. Returns
// the smallest distance.
template <bool kSign>
inline uint8_t distances(const uint8_t* query, const uint8_t* key_planes, int64_t head_size, int64_t keys,
                         uint8_t* out) {
  const int64_t plane_count = planes(head_size);
  const __m512i most = _mm512_set1_epi8(static_cast<char>(head_size));
  __m512i smallest = _mm512_set1_epi8(-1);
  for (int64_t j = 0; j < keys; j += 64) {
    __m512i sum = _mm512_setzero_si512();
    for (int64_t p = 0; p < plane_count; ++p, key_planes += 64) {
      const __m512i key = _mm512_load_si512(key_planes);
      const __m512i byte = _mm512_set1_epi8(static_cast<char>(query[p]));
      sum = _mm512_add_epi8(sum, _mm512_popcnt_epi8(kSign ? _mm512_xor_si512(byte, key) : _mm512_and_si512(byte, key)));
    }
    if (!kSign) sum = _mm512_sub_epi8(most, sum);
    sum = _mm512_mask_mov_epi8(_mm512_set1_epi8(-1), first_bytes(keys - j), sum);
    _mm512_store_si512(out + j, sum);
    smallest = _mm512_min_epu8(smallest, sum);
  }
  const __m256i half = _mm256_min_epu8(_mm512_castsi512_si256(smallest), _mm512_extracti64x4_epi64(smallest, 1));
  const __m128i quarter = _mm_min_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __m128i words = _mm_minpos_epu16(_mm_min_epu8(quarter, _mm_srli_epi16(quarter, 8)));
  return static_cast<uint8_t>(_mm_cvtsi128_si32(words));
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

// Distances of one query, in place, to probabilities as level bytes; zero for keys after the last. keys > 0.
inline void softmax_bits(const ExponentialTable& exponentials, uint8_t smallest, int64_t head_size, int64_t keys,
                         float probability_inverse_step, CodeType code, uint8_t* row) {
  const __m512i least = _mm512_set1_epi8(static_cast<char>(smallest));
  __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
  for (int64_t j = 0; j < keys; j += 64) {
    const __m512i index = _mm512_sub_epi8(_mm512_load_si512(row + j), least);
    const __mmask64 lanes = first_bytes(keys - j);
    const __m512i zero = _mm512_setzero_si512();
    low = _mm512_add_epi64(low, _mm512_sad_epu8(look_up(lanes, index, exponentials.low), zero));
    high = _mm512_add_epi64(high, _mm512_sad_epu8(look_up(lanes, index, exponentials.high), zero));
  }
  const int64_t sum = _mm512_reduce_add_epi64(_mm512_add_epi64(low, _mm512_slli_epi64(high, 8)));
  const __m512 r = _mm512_set1_ps(probability_inverse_step / static_cast<float>(sum));

  alignas(64) uint8_t probabilities[kTableSize];
  const CodeRange range(code);
  const __m512i one = _mm512_set1_epi32(code.high - code.low);
  for (int64_t i = 0; i <= head_size; i += 16) {
    const __m512 z = _mm512_mul_ps(_mm512_load_ps(exponentials.values + i), r);
    const __m512i levels = code.width == 8 ? range.levels(z) : _mm512_maskz_mov_epi32(range.bits(0xffff, z), one);
    _mm_store_si128(reinterpret_cast<__m128i*>(probabilities + i), _mm512_cvtepi32_epi8(levels));
  }
  for (int64_t j = 0; j < keys; j += 64) {
    const __m512i index = _mm512_sub_epi8(_mm512_load_si512(row + j), least);
    _mm512_store_si512(row + j, look_up(first_bytes(keys - j), index, probabilities));
  }
}

// The same without softmax: 1 where the score is positive.
inline void boolean_bits(int32_t step, int64_t head_size, int64_t keys, uint8_t* row) {
  // dot > 0: distance < head_size / step.
  const __m512i most = _mm512_set1_epi8(static_cast<char>((head_size + step - 1) / step - 1));
  for (int64_t j = 0; j < keys; j += 64) {
    const __mmask64 lanes = first_bytes(keys - j);
    const __mmask64 positive = _mm512_mask_cmple_epu8_mask(lanes, _mm512_load_si512(row + j), most);
    _mm512_store_si512(row + j, _mm512_maskz_set1_epi8(positive, 1));
  }
}

// ctx[d] of one query for bool probabilities: low * pop(p) + (high - low) * pop(p & v).
inline void context_bits(const uint8_t* row, const uint64_t* value_planes, int64_t head_size, int64_t keys,
                         CodeType value, int32_t* context) {
  const int64_t channels = planes(head_size) * 8;
  const __m512i step = _mm512_set1_epi64(value.high - value.low);
  for (int64_t d = 0; d < channels; d += 8) {
    __m512i sum = _mm512_setzero_si512();
    int64_t ones = 0;
    for (int64_t j = 0; j < keys; j += 64) {
      const __m512i bytes = _mm512_load_si512(row + j);
      const uint64_t bits = _mm512_test_epi8_mask(bytes, bytes);
      ones += _mm_popcnt_u64(bits);
      const __m512i plane = _mm512_load_si512(value_planes + j / 64 * channels + d);
      sum = _mm512_add_epi64(
          sum, _mm512_popcnt_epi64(_mm512_and_si512(_mm512_set1_epi64(static_cast<int64_t>(bits)), plane)));
    }
    const __m512i offset = _mm512_set1_epi64(ones * value.low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(context + d),
                       _mm512_cvtepi64_epi32(_mm512_add_epi64(_mm512_mullo_epi64(sum, step), offset)));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BITS_H_

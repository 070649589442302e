// SPDX-License-Identifier: Apache-2.0
// Attention on codes of width 1 by counting bits.
//
// Keys are stored as planes of bytes: plane p holds channels 8 p .. 8 p + 7 of 64 keys, so that counts of all channels
// add up in one byte a key. A score then takes one of head_size + 1 values: exponentials and probabilities come from
// tables. Values are stored as planes of bits: for 32 keys one int32 a channel with one bit a key.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BITS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BITS_H_

#include "x86_avx512_codes.h"

namespace bebert {
namespace {

// Two vectors of bytes, the table of vpermi2b.
constexpr int64_t kTableSize = 128;

inline int64_t planes(int64_t head_size) { return (head_size + 7) / 8; }

// Byte p of the words of 64 rows from `first` on, for p = 0 .. 7; a word holds `channels` bits from channel d of the
// head on. Rows after the last are zero.
inline void load_byte_planes(const HeadCodes& codes, int64_t first, int64_t d, int64_t channels, __m512i (&plane)[8]) {
  alignas(64) uint64_t words[64];
  const int64_t count = smaller(64, codes.count - first);
  const uint8_t* row = codes.rows + first * codes.row_bytes;
  for (int64_t i = 0; i < count; ++i, row += codes.row_bytes) words[i] = load_bits(row, codes.channel + d, channels);
  for (int64_t i = count; i < 64; ++i) words[i] = 0;

  // Within each vector of eight rows, byte 8 p + i is byte p of word i; then words are transposed.
  const __m512i gather = _mm512_add_epi64(
      _mm512_set1_epi64(0x3830282018100800),
      _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(0x0101010101010101)));
  __m512i rows[8], pairs[8], fours[8];
  for (int i = 0; i < 8; ++i) rows[i] = _mm512_permutexvar_epi8(gather, _mm512_load_si512(words + 8 * i));
  for (int i = 0; i < 4; ++i) {  // of lanes: planes 0, 2, 4, 6, and 1, 3, 5, 7
    pairs[i] = _mm512_unpacklo_epi64(rows[2 * i], rows[2 * i + 1]);
    pairs[i + 4] = _mm512_unpackhi_epi64(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int half = 0; half < 2; ++half) {
      const __m512i a = pairs[i + 2 * half], b = pairs[i + 2 * half + 1];
      fours[i + half] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(1, 0, 1, 0));
      fours[i + half + 2] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(3, 2, 3, 2));
    }
  }
  for (int odd = 0; odd < 2; ++odd) {
    for (int i = 0; i < 2; ++i) {
      const __m512i a = fours[4 * odd + 2 * i], b = fours[4 * odd + 2 * i + 1];
      plane[odd + 4 * i] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(2, 0, 2, 0));
      plane[odd + 4 * i + 2] = _mm512_shuffle_i64x2(a, b, _MM_SHUFFLE(3, 1, 3, 1));
    }
  }
}

// [keys / 64, planes, 64]; keys after the last are zero.
inline void store_byte_planes(const HeadCodes& codes, int64_t head_size, uint8_t* out) {
  for (int64_t j = 0; j < codes.count; j += 64) {
    for (int64_t d = 0; d < head_size; d += 64) {
      const int64_t channels = smaller(64, head_size - d);
      __m512i plane[8];
      load_byte_planes(codes, j, d, channels, plane);
      for (int64_t p = 0; p < planes(channels); ++p, out += 64) _mm512_store_si512(out, plane[p]);
    }
  }
}

// [keys / 32, stride]: 32 keys of a channel. Keys after the last are zero; channels after the last are not written.
inline void store_bit_planes(const HeadCodes& codes, int64_t head_size, int64_t stride, uint32_t* out) {
  for (int64_t j = 0; j < codes.count; j += 64, out += 2 * stride) {
    for (int64_t d = 0; d < head_size; d += 64) {
      const int64_t channels = smaller(64, head_size - d);
      __m512i plane[8];
      load_byte_planes(codes, j, d, channels, plane);
      for (int64_t p = 0; p < planes(channels); ++p) {
        __m512i bytes = plane[p];
        for (int bit = 7; bit >= 0; --bit) {  // the sign bits of the bytes, from the most significant bit down
          const uint64_t keys = _mm512_movepi8_mask(bytes);
          out[d + 8 * p + bit] = static_cast<uint32_t>(keys);
          out[stride + d + 8 * p + bit] = static_cast<uint32_t>(keys >> 32);
          bytes = _mm512_add_epi8(bytes, bytes);
        }
      }
    }
  }
}

// Distances of kRows queries from all keys, as bytes: channels that differ (sign), or head_size minus channels that are
// one in both (bool). dot = head_size - step * distance, with step 2 or 1. Calls use(j, t, lanes, distances) with those
// of query t from 64 keys from j on, of which `lanes` exist.
template <bool kSign, class Use>
inline void distances(const uint8_t (&queries)[kRows][kTableSize / 8], const uint8_t* key_planes, int64_t head_size,
                      int64_t keys, Use use) {
  const int64_t plane_count = planes(head_size);
  const __m512i most = _mm512_set1_epi8(static_cast<char>(head_size));
  for (int64_t j = 0; j < keys; j += 64) {
    __m512i sums[kRows];
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) sums[t] = _mm512_setzero_si512();
    for (int64_t p = 0; p < plane_count; ++p, key_planes += 64) {
      const __m512i key = _mm512_load_si512(key_planes);
      BEBERT_UNROLL
      for (int t = 0; t < kRows; ++t) {
        const __m512i byte = _mm512_set1_epi8(static_cast<char>(queries[t][p]));
        const __m512i bits = kSign ? _mm512_xor_si512(byte, key) : _mm512_and_si512(byte, key);
        sums[t] = _mm512_add_epi8(sums[t], _mm512_popcnt_epi8(bits));
        BEBERT_KEEP(sums[t]);
      }
    }
    const __mmask64 lanes = first_bytes(keys - j);
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) use(j, t, lanes, kSign ? sums[t] : _mm512_sub_epi8(most, sums[t]));
  }
}

// The smallest byte of each row.
inline void smallest_bytes(const __m512i (&rows)[kRows], uint8_t (&smallest)[kRows]) {
  __m512i words = reduce_words(rows, [](__m512i a, __m512i b) { return _mm512_min_epu8(a, b); });
  words = _mm512_min_epu8(words, _mm512_srli_epi64(words, 32));
  words = _mm512_min_epu8(words, _mm512_srli_epi64(words, 16));
  words = _mm512_min_epu8(words, _mm512_srli_epi64(words, 8));
  const __m128i bytes = _mm512_cvtepi64_epi8(words);
  memcpy(smallest, &bytes, sizeof(smallest));
}

// fixed_exp of every distance beyond the smallest.
struct alignas(64) ExponentialTable {
  float values[kTableSize];
  int8_t high[kTableSize], low[kTableSize];  // value = 16384 + 255 * high + low
  int64_t positive;                          // entries after the first `positive` are zero
  bool falling;                              // no entry is above the one before it

  void fill(int32_t step, float score_scale) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 scale = _mm512_set1_ps(score_scale);
    positive = 0;
    falling = true;
    __m512i before = _mm512_set1_epi32(32768);
    for (int i = 0; i < kTableSize; i += 16) {
      const __m512i index = _mm512_add_epi32(lane, _mm512_set1_epi32(i));
      const __m512i difference = _mm512_mullo_epi32(index, _mm512_set1_epi32(-step));
      const __m512i e = fixed_exp(_mm512_mul_ps(_mm512_cvtepi32_ps(difference), scale));
      const __m512i centred = _mm512_sub_epi32(e, _mm512_set1_epi32(16384));
      const __m512i quotient =
          _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(centred), _mm512_set1_ps(1.0f / 255.0f)));
      const __m512i rest = _mm512_sub_epi32(centred, _mm512_mullo_epi32(quotient, _mm512_set1_epi32(255)));
      _mm512_store_ps(values + i, _mm512_cvtepi32_ps(e));
      _mm_store_si128(reinterpret_cast<__m128i*>(high + i), _mm512_cvtepi32_epi8(quotient));
      _mm_store_si128(reinterpret_cast<__m128i*>(low + i), _mm512_cvtepi32_epi8(rest));
      positive += _mm_popcnt_u32(_mm512_test_epi32_mask(e, e));
      falling &= _mm512_cmpgt_epi32_mask(e, _mm512_alignr_epi32(e, before, 15)) == 0;
      before = e;
    }
  }
};

// r of kRows queries from their distances. keys > 0.
inline void softmax_bits(const ExponentialTable& table, const uint8_t* rows, int64_t stride, int64_t keys,
                         const uint8_t (&smallest)[kRows], float probability_inverse_step, float (&r)[kRows]) {
  const __m512i high[2] = {_mm512_load_si512(table.high), _mm512_load_si512(table.high + 64)};
  const __m512i low[2] = {_mm512_load_si512(table.low), _mm512_load_si512(table.low + 64)};
  const __m512i one = _mm512_set1_epi8(1), base = _mm512_set1_epi8(static_cast<char>(255));
  __m512i sums[kRows];
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) sums[t] = _mm512_setzero_si512();
  for (int64_t j = 0; j < keys; j += 64) {
    const __mmask64 lanes = first_bytes(keys - j);
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const __m512i least = _mm512_set1_epi8(static_cast<char>(smallest[t]));
      const __m512i index = _mm512_sub_epi8(_mm512_load_si512(rows + t * stride + j), least);
      sums[t] = _mm512_dpbusd_epi32(sums[t], base, _mm512_maskz_permutex2var_epi8(lanes, high[0], index, high[1]));
      sums[t] = _mm512_dpbusd_epi32(sums[t], one, _mm512_maskz_permutex2var_epi8(lanes, low[0], index, low[1]));
      BEBERT_KEEP(sums[t]);
    }
  }
  __m512i words = reduce_words(sums, [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
  words = _mm512_add_epi32(words, _mm512_srli_epi64(words, 32));
  words = _mm512_add_epi32(words, _mm512_set1_epi32(static_cast<int32_t>(16384 * keys)));
  inverse_sums(words, probability_inverse_step, r);
}

// Distances of kRows queries, in place, to probabilities as level bytes; zero for keys after the last.
inline void store_levels(const ExponentialTable& table, const uint8_t (&smallest)[kRows], const float (&r)[kRows],
                         CodeType code, int64_t keys, int64_t stride, uint8_t* rows) {
  const CodeRange range(code);
  const __m128i one = _mm_set1_epi8(static_cast<char>(code.high - code.low));
  for (int t = 0; t < kRows; ++t) {
    alignas(64) uint8_t levels[kTableSize];
    for (int64_t i = 0; i < kTableSize; i += 16) {
      const __m512 z = _mm512_mul_ps(_mm512_load_ps(table.values + i), _mm512_set1_ps(r[t]));
      const __m128i bytes =
          code.width == 8 ? _mm512_cvtepi32_epi8(range.levels(z)) : _mm_maskz_mov_epi8(range.bits(0xffff, z), one);
      _mm_store_si128(reinterpret_cast<__m128i*>(levels + i), bytes);
    }
    const __m512i low = _mm512_load_si512(levels), high = _mm512_load_si512(levels + 64);
    const __m512i least = _mm512_set1_epi8(static_cast<char>(smallest[t]));
    for (int64_t j = 0; j < keys; j += 64) {
      uint8_t* row = rows + t * stride + j;
      const __m512i index = _mm512_sub_epi8(_mm512_load_si512(row), least);
      _mm512_store_si512(row, _mm512_maskz_permutex2var_epi8(first_bytes(keys - j), low, index, high));
    }
  }
}

// The keys whose probability is one, of the queries of a tile.
struct ProbabilityBits {
  uint64_t* words;  // [keys / 64, kRows]
  int32_t ones[kRows];

  void clear() { memset(ones, 0, sizeof(ones)); }

  void store(int64_t j, int t, uint64_t keys) {
    words[j / 64 * kRows + t] = keys;
    ones[t] += static_cast<int32_t>(_mm_popcnt_u64(keys));
  }

  // From level bytes, [kRows, stride].
  void pack(const uint8_t* levels, int64_t keys, int64_t stride) {
    clear();
    for (int64_t j = 0; j < keys; j += 64) {
      for (int t = 0; t < kRows; ++t) {
        const __m512i row = _mm512_load_si512(levels + t * stride + j);
        store(j, t, _mm512_mask_test_epi8_mask(first_bytes(keys - j), row, row));
      }
    }
  }

  // Keys 32 * index .. 32 * index + 31 of query t, in each lane.
  __m512i half(int64_t index, int t) const {
    int32_t keys;
    memcpy(&keys, reinterpret_cast<const uint8_t*>(words + index / 2 * kRows + t) + index % 2 * 4, sizeof(keys));
    return _mm512_set1_epi32(keys);
  }
};

// Distances to probabilities by `code`, which is bool. The table is falling, z rises with the exponential, and so the
// probability is one up to some distance.
inline void store_bits(const ExponentialTable& table, const uint8_t (&smallest)[kRows], const float (&r)[kRows],
                       CodeType code, int64_t keys, int64_t stride, const uint8_t* rows, ProbabilityBits& bits) {
  const CodeRange range(code);
  alignas(8) uint8_t limit[kRows];
  for (int t = 0; t < kRows; ++t) {
    int ones = 0;
    for (int64_t i = 0; i < table.positive; i += 16) {
      const __m512 z = _mm512_mul_ps(_mm512_load_ps(table.values + i), _mm512_set1_ps(r[t]));
      const __mmask16 bits = range.bits(0xffff, z);
      ones += _mm_popcnt_u32(bits);
      if (bits != 0xffff) break;
    }
    limit[t] = static_cast<uint8_t>(smallest[t] + ones);  // at most 127 + 128
  }
  bits.clear();
  for (int64_t j = 0; j < keys; j += 64) {
    for (int t = 0; t < kRows; ++t) {
      const __m512i distance = _mm512_load_si512(rows + t * stride + j);
      bits.store(j, t, _mm512_cmplt_epu8_mask(distance, _mm512_set1_epi8(static_cast<char>(limit[t]))));
    }
  }
}

// A context is low * pop(p) + (high - low) * pop(p & v). For `bool` values that is a count; for `sign` values it is
// twice the difference of the count and pop(p) / 2, less one if pop(p) is odd.
inline __m512i context_of(__m512i sum, bool sign, bool odd) {
  if (!sign) return sum;
  return _mm512_sub_epi32(_mm512_add_epi32(sum, sum), _mm512_set1_epi32(odd));
}

// Calls use(t, sum, odd) with the sums of context_of of sixteen channels for each query. planes: [keys / 32, stride] at
// the first of the channels.
template <class Use>
inline void context_bits(const ProbabilityBits& bits, const uint32_t* planes, int64_t stride, int64_t keys, bool sign,
                         Use use) {
  __m512i sums[kRows];
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) sums[t] = _mm512_set1_epi32(sign ? -(bits.ones[t] / 2) : 0);
  for (int64_t i = 0; i < (keys + 31) / 32; ++i, planes += stride) {
    const __m512i plane = _mm512_load_si512(planes);
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      const __m512i both = _mm512_and_si512(bits.half(i, t), plane);
      sums[t] = _mm512_add_epi32(sums[t], _mm512_popcnt_epi32(both));
      BEBERT_KEEP(sums[t]);
    }
  }
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) use(t, sums[t], bits.ones[t] % 2 != 0);
}

// The bit of an output code of width 1 changes at most once from the least context to the greatest, -keys to keys: each
// rounded step of its arithmetic is monotonic.
struct OutputLimits {
  __m512i limit[2];  // for an even or odd pop(p): the bit is `least` up to this sum, and then the other
  __mmask16 least;

  void find(const OutputChannels& output, int64_t keys, bool sign) {
    __m512i low = _mm512_set1_epi32(static_cast<int32_t>(-keys)), high = _mm512_set1_epi32(static_cast<int32_t>(keys));
    least = output.bits(low);
    const __mmask16 changes = output.bits(high) ^ least;
    const __m512i all = high;
    for (int64_t range = 2 * keys; range > 1; range = (range + 1) / 2) {
      const __m512i middle = _mm512_srai_epi32(_mm512_add_epi32(low, high), 1);
      const __mmask16 other = output.bits(middle) ^ least;
      low = _mm512_mask_mov_epi32(middle, other, low);
      high = _mm512_mask_mov_epi32(high, other, middle);
    }
    const __m512i last = _mm512_mask_mov_epi32(all, changes, low);
    limit[0] = sign ? _mm512_srai_epi32(last, 1) : last;
    limit[1] = sign ? _mm512_srai_epi32(_mm512_add_epi32(last, _mm512_set1_epi32(1)), 1) : last;
  }

  __mmask16 bits(__m512i sum, bool odd) const { return _mm512_cmpgt_epi32_mask(sum, limit[odd]) ^ least; }
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX512_BITS_H_

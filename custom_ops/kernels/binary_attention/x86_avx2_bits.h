// SPDX-License-Identifier: Apache-2.0
// Attention on codes of width 1, two queries at a time: scores and contexts are counts of x86_avx2_counts.h, with keys
// and values in the place of weights. A score takes one of head_size + 1 values: exponentials and probabilities come
// from tables.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_BITS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_BITS_H_

#include "../x86_avx2_counts.h"
#include "x86_avx2_codes.h"

namespace bebert {
namespace {

// Values of an index into the tables.
constexpr int64_t kTableSize = 128;

// Rows of indices (keys, or channels of values) that are counted together, and the bytes of their indices.
constexpr int64_t kBlock = 64;
inline int64_t block_index_bytes(int64_t length) { return steps_of_row(length) * kStepGroups * kBlock; }

// Where the indices of group g of 32 rows of a block stand.
inline uint8_t* group_of(uint8_t* indices, int64_t g, int64_t vector) {
  return indices + (g / kStepGroups * 2 + vector) * 96 + g % kStepGroups * 32;
}

// 32 words, of rows 0, 1, 16, 17, 2, 3, 18, 19 and so on, to vectors of their bytes: the address (row's bits 3 2 1;
// row's bit 0, byte 2 1 0) of a byte is rotated by one bit four times.
inline void split_bytes(const uint64_t (&words)[32], __m256i (&bytes)[8]) {
  for (int i = 0; i < 8; ++i) bytes[i] = load_vector(words + 4 * i);
  for (int round = 0; round < 4; ++round) {
    __m256i next[8];
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) {
      next[2 * i] = _mm256_unpacklo_epi8(bytes[i], bytes[i + 4]);
      next[2 * i + 1] = _mm256_unpackhi_epi8(bytes[i], bytes[i + 4]);
    }
    BEBERT_UNROLL
    for (int i = 0; i < 8; ++i) bytes[i] = next[i];
  }
}

// [keys / 64] blocks of indices; keys after the last are zero.
inline void index_keys(const HeadCodes& codes, int64_t head_size, int64_t padded_keys, uint8_t* out) {
  const int64_t block_bytes = block_index_bytes(head_size);
  const __m256i nibble = _mm256_set1_epi8(15);
  memset(out, 0, static_cast<size_t>(padded_keys / kBlock * block_bytes));
  for (int64_t j = 0; j < codes.count; j += 32) {
    uint8_t* block = out + j / kBlock * block_bytes;
    for (int64_t d = 0; d < head_size; d += 64) {
      const int64_t channels = smaller(64, head_size - d);
      alignas(32) uint64_t words[32] = {};
      for (int64_t i = 0; i < smaller(32, codes.count - j); ++i) {
        const uint8_t* row = codes.rows + (j + i) * codes.row_bytes;
        words[i % 16 / 2 * 4 + i / 16 * 2 + i % 2] = load_bits(row, codes.channel + d, channels);
      }
      __m256i bytes[8];
      split_bytes(words, bytes);
      for (int64_t p = 0; p < (channels + 7) / 8; ++p) {
        const int64_t g = d / 4 + 2 * p, vector = j % kBlock / 32;
        store_vector(group_of(block, g, vector), _mm256_and_si256(bytes[p], nibble));
        store_vector(group_of(block, g + 1, vector), _mm256_and_si256(_mm256_srli_epi16(bytes[p], 4), nibble));
      }
    }
  }
}

// [channels / 64] blocks of indices, along the keys; byte 4 i + q of a vector is channel 8 q + i.
inline void index_values(const HeadCodes& codes, int64_t head_size, uint8_t* out) {
  const int64_t block_bytes = block_index_bytes(codes.count);
  const __m256i bit = _mm256_setr_epi32(0x01010101, 0x02020202, 0x04040404, 0x08080808, 0x10101010, 0x20202020,
                                        0x40404040, static_cast<int32_t>(0x80808080));
  memset(out, 0, static_cast<size_t>(round_up(head_size, kBlock) / kBlock * block_bytes));
  for (int64_t d = 0; d < head_size; d += 32) {
    uint8_t* block = out + d / kBlock * block_bytes;
    for (int64_t j = 0; j < codes.count; j += 4) {
      __m256i index = _mm256_setzero_si256();
      for (int64_t i = 0; i < smaller(4, codes.count - j); ++i) {
        const uint8_t* row = codes.rows + (j + i) * codes.row_bytes;
        const uint64_t word = load_bits(row, codes.channel + d, smaller(32, head_size - d));
        const __m256i bits = _mm256_and_si256(_mm256_set1_epi32(static_cast<int32_t>(word)), bit);
        const __m256i one = _mm256_and_si256(_mm256_cmpeq_epi8(bits, bit), _mm256_set1_epi8(static_cast<char>(1 << i)));
        index = _mm256_or_si256(index, one);
      }
      store_vector(group_of(block, j / 4, d % kBlock / 32), index);
    }
  }
}

inline uint8_t smallest_byte(__m256i bytes) {
  const __m128i half = _mm_min_epu8(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  return static_cast<uint8_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_min_epu8(half, _mm_srli_epi16(half, 8)))));
}

// The smallest and the largest of bytes.
struct ByteRange {
  uint8_t smallest, largest;
};

// Counts of two queries for all keys; 32-byte aligned tables, kTableSize > head_size. counts: [2, padded_keys].
BEBERT_NOINLINE void count_keys(const uint8_t* tables, const uint8_t* indices, int64_t head_size, int64_t padded_keys,
                                uint8_t* counts) {
  const int64_t steps = steps_of_row(head_size);
  for (int64_t j = 0; j < padded_keys; j += kBlock, indices += block_index_bytes(head_size)) {
    __m256i first[2], second[2];
    count_pairs<2>(tables, indices, steps, first, second);
    for (int v = 0; v < 2; ++v) {
      store_vector(counts + j + 32 * v, first[v]);
      store_vector(counts + padded_keys + j + 32 * v, second[v]);
    }
  }
}

// step * count + least of each count, of a multiple of 8.
inline void widen_counts(const uint8_t* counts, int64_t padded_keys, int32_t step, int32_t least, int32_t* out) {
  for (int64_t j = 0; j < padded_keys; j += 8) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(counts + j)));
    const __m256i scaled = _mm256_mullo_epi32(wide, _mm256_set1_epi32(step));
    store_vector(out + j, _mm256_add_epi32(scaled, _mm256_set1_epi32(least)));
  }
}

// Counts to their distances from the largest, in place; 255 for keys after the last. Returns the largest distance.
inline int64_t to_distances(int64_t keys, int64_t padded_keys, uint8_t* counts) {
  memset(counts + keys, 0, static_cast<size_t>(padded_keys - keys));
  const __m256i all = _mm256_set1_epi8(-1);
  __m256i least = all;  // of the complements
  for (int64_t j = 0; j < keys; j += 32) least = _mm256_min_epu8(least, _mm256_xor_si256(load_vector(counts + j), all));
  const __m256i largest = _mm256_set1_epi8(static_cast<char>(255 - smallest_byte(least)));
  memset(counts + keys, static_cast<int>(static_cast<uint8_t>(_mm256_extract_epi8(largest, 0))),
         static_cast<size_t>(padded_keys - keys));
  __m256i closest = all;  // complements of distances
  for (int64_t j = 0; j < padded_keys; j += 32) {
    const __m256i distance = _mm256_sub_epi8(largest, load_vector(counts + j));
    closest = _mm256_min_epu8(closest, _mm256_xor_si256(distance, all));
    store_vector(counts + j, distance);
  }
  memset(counts + keys, 255, static_cast<size_t>(padded_keys - keys));
  return 255 - smallest_byte(closest);
}

// Entries of tables of 16 * segments bytes; zero for indices beyond. An index less the start of its segment is 0 .. 15,
// all others have bit 7 after a saturating sum with 0x70.
template <int kTables>
inline void look_up(__m256i index, const uint8_t* const (&tables)[kTables], int64_t segments,
                    __m256i (&found)[kTables]) {
  const __m256i beyond = _mm256_set1_epi8(0x70), segment = _mm256_set1_epi8(16);
  for (int i = 0; i < kTables; ++i) found[i] = _mm256_setzero_si256();
  for (int64_t s = 0; s < segments; ++s, index = _mm256_sub_epi8(index, segment)) {
    const __m256i entry = _mm256_adds_epu8(index, beyond);
    for (int i = 0; i < kTables; ++i) {
      found[i] = _mm256_or_si256(found[i], _mm256_shuffle_epi8(load_table(tables[i] + 16 * s), entry));
    }
  }
}

// fixed_exp of every distance from the largest score.
struct alignas(32) ExponentialTable {
  float values[kTableSize];
  uint8_t low[kTableSize], high[kTableSize];  // the two bytes; 32768 fits

  void fill(int32_t step, float score_scale) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), byte = _mm256_set1_epi32(255);
    const __m256 scale = _mm256_set1_ps(score_scale);
    for (int i = 0; i < kTableSize; i += 32) {
      __m256 differences[4];
      __m256i e[4], lows[4], highs[4];
      for (int q = 0; q < 4; ++q) {
        const __m256i index = _mm256_add_epi32(lane, _mm256_set1_epi32(i + 8 * q));
        const __m256i difference = _mm256_mullo_epi32(index, _mm256_set1_epi32(-step));
        differences[q] = _mm256_mul_ps(_mm256_cvtepi32_ps(difference), scale);
      }
      fixed_exp(differences, e);
      for (int q = 0; q < 4; ++q) {
        _mm256_store_ps(values + i + 8 * q, _mm256_cvtepi32_ps(e[q]));
        lows[q] = _mm256_and_si256(e[q], byte);
        highs[q] = _mm256_srli_epi32(e[q], 8);
      }
      store_vector(low + i, narrow_to_bytes(lows[0], lows[1], lows[2], lows[3]));
      store_vector(high + i, narrow_to_bytes(highs[0], highs[1], highs[2], highs[3]));
    }
  }

  // The sum for all distances up to `most`.
  int64_t sum(const uint8_t* distances, int64_t padded_keys, int64_t most) const {
    const uint8_t* const tables[2] = {low, high};
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t j = 0; j < padded_keys; j += 32) {
      __m256i found[2];
      look_up(load_vector(distances + j), tables, most / 16 + 1, found);
      for (int i = 0; i < 2; ++i) sums[i] = _mm256_add_epi64(sums[i], sum_bytes(found[i]));
    }
    return sum_int32(sums[0]) + int64_t{256} * sum_int32(sums[1]);
  }
};

// The level of the probability of every distance up to `most`; bits are levels 0 and high - low.
inline void fill_probabilities(const ExponentialTable& exponentials, int64_t most, float r, CodeType code,
                               uint8_t* levels) {
  const CodeRange range(code);
  const __m256 factor = _mm256_set1_ps(r);
  const __m256i one = _mm256_set1_epi32(code.high - code.low);
  for (int64_t i = 0; i <= most; i += 32) {
    __m256i quarters[4];
    for (int q = 0; q < 4; ++q) {
      const __m256 z = _mm256_mul_ps(_mm256_load_ps(exponentials.values + i + 8 * q), factor);
      const __m256 above = _mm256_cmp_ps(z, range.middle, _CMP_GT_OQ);
      quarters[q] = code.width == 8 ? range.levels(z) : _mm256_and_si256(_mm256_castps_si256(above), one);
    }
    store_vector(levels + i, narrow_to_bytes(quarters[0], quarters[1], quarters[2], quarters[3]));
  }
}

// Distances to probabilities as level bytes, in place; zero for keys after the last.
inline void look_up_levels(const uint8_t* levels, int64_t most, int64_t padded_keys, uint8_t* row) {
  const uint8_t* const tables[1] = {levels};
  for (int64_t j = 0; j < padded_keys; j += 32) {
    __m256i found[1];
    look_up(load_vector(row + j), tables, most / 16 + 1, found);
    store_vector(row + j, found[0]);
  }
}

// Counts to 1 where the count is above `most`, in place; zero for keys after the last.
inline void to_booleans(int64_t most, int64_t keys, int64_t padded_keys, uint8_t* counts) {
  memset(counts + keys, 0, static_cast<size_t>(padded_keys - keys));
  const __m256i limit = _mm256_set1_epi8(static_cast<char>(most)), one = _mm256_set1_epi8(1);
  for (int64_t j = 0; j < padded_keys; j += 32) {
    const __m256i above = _mm256_subs_epu8(load_vector(counts + j), limit);
    store_vector(counts + j, _mm256_min_epu8(above, one));
  }
}

// Contexts of two queries for bool probabilities: step * pop(p & v) + low * pop(p). rows: level bytes, [2,
// padded_keys]; context: [2, padded_channels]. `bits` has room for two rows of bits, `tables` for those of a pair.
BEBERT_NOINLINE void count_values(const uint8_t* rows, int64_t keys, int64_t padded_keys, const uint8_t* indices,
                                  CodeType value, int64_t padded_channels, uint8_t* bits, uint8_t* tables,
                                  int32_t* context) {
  const int64_t row_bytes = packed_row_bytes(keys);
  int32_t terms[2];
  for (int t = 0; t < 2; ++t) {
    int64_t ones = 0;
    for (int64_t j = 0; j < keys; j += 64) {
      const __m256i* bytes = reinterpret_cast<const __m256i*>(rows + t * padded_keys + j);
      const __m256i zero = _mm256_setzero_si256();
      const uint64_t low = ~static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(load_vector(bytes), zero)));
      const uint32_t high =
          ~static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(load_vector(bytes + 1), zero)));
      const uint64_t word = (low & 0xffffffffu) | static_cast<uint64_t>(high) << 32;
      ones += _mm_popcnt_u64(word);
      memcpy(bits + t * row_bytes + j / 8, &word, sizeof(word));
    }
    terms[t] = static_cast<int32_t>(ones) * value.low;
  }
  build_pair_tables<false>(bits, bits + row_bytes, keys, tables);
  const __m256i step = _mm256_set1_epi32(value.high - value.low);
  const int64_t steps = steps_of_row(keys);
  for (int64_t d = 0; d < padded_channels; d += kBlock, indices += block_index_bytes(keys)) {
    __m256i all[2][2], odd[2][2];
    for (int64_t s = 0; s < steps || s == 0; s += kMaximumSteps) {
      __m256i counts[2][2];
      count_pairs<2>(tables + s * kStepTableBytes, indices + s * 192, smaller(kMaximumSteps, steps - s), counts[0],
                     counts[1]);
      for (int t = 0; t < 2; ++t) {
        for (int v = 0; v < 2; ++v) {
          const __m256i odd_counts = _mm256_srli_epi16(counts[t][v], 8);
          all[t][v] = s == 0 ? counts[t][v] : _mm256_add_epi16(all[t][v], counts[t][v]);
          odd[t][v] = s == 0 ? odd_counts : _mm256_add_epi16(odd[t][v], odd_counts);
        }
      }
    }
    for (int t = 0; t < 2; ++t) {
      const __m256i term = _mm256_set1_epi32(terms[t]);
      for (int v = 0; v < 2; ++v) {
        add_words<true>(all[t][v], odd[t][v], step, term, context + t * padded_channels + d + 32 * v);
      }
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_BITS_H_

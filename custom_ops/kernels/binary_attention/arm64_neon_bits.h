// SPDX-License-Identifier: Apache-2.0
// Attention on codes of width 1 by counting bits.
//
// Keys are stored as planes of bytes: plane p holds channels 8 p .. 8 p + 7 of 64 keys, so that the counts of all
// channels of a key add up in one byte. A score then takes one of head_size + 1 values: exponentials and probabilities
// come from tables. Values are planes too: plane p holds keys 8 p .. 8 p + 7 of 64 channels.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_BITS_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_BITS_H_

#include "../arm64_neon_counts.h"
#include "arm64_neon_codes.h"

namespace bebert {
namespace {

// Entries of the tables: eight vectors.
constexpr int64_t kTableSize = 128;

// Lanes of a plane: keys or channels.
constexpr int64_t kPlane = 64;

inline int64_t planes(int64_t bits) { return (bits + 7) / 8; }

// Words of up to eight keys (missing ones are zero) to bytes: byte i of out[p] is byte p of word i.
inline void load_columns(const HeadCodes& codes, int64_t key, int64_t channel, int64_t channels, uint8x16_t (&out)[4]) {
  uint64_t words[8] = {};
  const uint8_t* row = codes.rows + key * codes.row_bytes;
  for (int64_t i = 0; i < smaller(8, codes.count - key); ++i, row += codes.row_bytes) {
    words[i] = load_bits(row, codes.channel + channel, channels);
  }
  constexpr uint8_t kFirst[16] = {0, 8, 16, 24, 32, 40, 48, 56, 1, 9, 17, 25, 33, 41, 49, 57};
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(words);
  const uint8x16x4_t table = {{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
  for (int i = 0; i < 4; ++i) {
    out[i] = vqtbl4q_u8(table, vaddq_u8(vector_of(kFirst), vdupq_n_u8(static_cast<uint8_t>(2 * i))));
  }
}

// [keys / 64, planes, 64]; keys after the last are zero.
inline void store_key_planes(const HeadCodes& codes, int64_t head_size, int64_t padded_keys, uint8_t* out) {
  const int64_t count = planes(head_size);
  for (int64_t j = 0; j < padded_keys; j += 8) {
    uint8_t* to = out + j / kPlane * count * kPlane + j % kPlane;
    for (int64_t d = 0; d < head_size; d += 64) {
      const int64_t channels = smaller(64, head_size - d);
      uint8x16_t columns[4];
      load_columns(codes, j, d, channels, columns);
      uint64_t bytes[8];
      for (int i = 0; i < 4; ++i) vst1q_u64(bytes + 2 * i, vreinterpretq_u64_u8(columns[i]));
      for (int64_t p = 0; p < planes(channels); ++p) memcpy(to + (d / 8 + p) * kPlane, &bytes[p], sizeof(bytes[p]));
    }
  }
}

// Exchanges bits and bytes of words: bit j of byte i with bit i of byte j, by blocks of 1, 2 and 4 bits.
inline uint8x16_t transpose_bits(uint8x16_t bytes) {
  uint64x2_t x = vreinterpretq_u64_u8(bytes);
  uint64x2_t t = vandq_u64(veorq_u64(x, vshrq_n_u64(x, 7)), vdupq_n_u64(0x00aa00aa00aa00aa));
  x = veorq_u64(x, veorq_u64(t, vshlq_n_u64(t, 7)));
  t = vandq_u64(veorq_u64(x, vshrq_n_u64(x, 14)), vdupq_n_u64(0x0000cccc0000cccc));
  x = veorq_u64(x, veorq_u64(t, vshlq_n_u64(t, 14)));
  t = vandq_u64(veorq_u64(x, vshrq_n_u64(x, 28)), vdupq_n_u64(0x00000000f0f0f0f0));
  x = veorq_u64(x, veorq_u64(t, vshlq_n_u64(t, 28)));
  return vreinterpretq_u8_u64(x);
}

// [channels / 64, keys / 8, 64].
inline void store_value_planes(const HeadCodes& codes, int64_t head_size, int64_t padded_keys, uint8_t* out) {
  for (int64_t d = 0; d < head_size; d += kPlane) {
    for (int64_t j = 0; j < padded_keys; j += 8, out += kPlane) {
      uint8x16_t columns[4];
      load_columns(codes, j, d, smaller(64, head_size - d), columns);
      for (int i = 0; i < 4; ++i) vst1q_u8(out + 16 * i, transpose_bits(columns[i]));
    }
  }
}

// counts[t] of lane i: bits of bytes[t][p] xor (kXor) or and plane p of lane i, for `count` <= kMostCounts planes. A
// head of up to 32 channels needs half of the lanes.
template <bool kXor, int kVectors>
inline void count_planes(const uint8_t* bytes, int64_t stride, const uint8_t* plane, int64_t count,
                         uint8x16_t (&counts)[kRows][4]) {
  BEBERT_UNROLL
  for (int t = 0; t < kRows; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < 4; ++v) counts[t][v] = vdupq_n_u8(0);
  }
  for (int64_t p = 0; p < count; ++p, plane += kPlane) {
    uint8x16_t lanes[4];
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) lanes[v] = vld1q_u8(plane + 16 * v);
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      uint8x16_t byte = vld1q_dup_u8(bytes + t * stride + p);
      if (kVectors == 4) {
        add_counts<kXor, Next::nothing>(byte, lanes, counts[t], nullptr, 0, nullptr);
        continue;
      }
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const uint8x16_t bits = kXor ? veorq_u8(byte, lanes[v]) : vandq_u8(byte, lanes[v]);
        counts[t][v] = vaddq_u8(counts[t][v], vcntq_u8(bits));
      }
    }
  }
}

// Distances of kRows queries from all keys, as bytes: channels that differ (sign), or head_size minus channels that are
// one in both (bool). dot = head_size - step * distance, with step 2 or 1. Keys after the last have distance 255.
// queries: [kRows, 16]; out: [kRows, stride]. head_size < kTableSize.
template <bool kSign>
inline void distances(const uint8_t* queries, const uint8_t* key_planes, int64_t head_size, int64_t keys,
                      int64_t stride, uint8_t* out, uint8_t* smallest) {
  const uint8x16_t most = vdupq_n_u8(static_cast<uint8_t>(head_size));
  uint8x16_t least[kRows];
  for (int t = 0; t < kRows; ++t) least[t] = vdupq_n_u8(255);
  for (int64_t j = 0; j < keys; j += kPlane, key_planes += kPlane * planes(head_size)) {
    uint8x16_t counts[kRows][4];
    count_planes<kSign, 4>(queries, 16, key_planes, planes(head_size), counts);
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < 4; ++v) {
        const int64_t left = keys - j - 16 * v;
        uint8x16_t distance = kSign ? counts[t][v] : vsubq_u8(most, counts[t][v]);
        if (left < 16) distance = vornq_u8(distance, first_lanes(left > 0 ? left : 0));
        vst1q_u8(out + t * stride + j + 16 * v, distance);
        least[t] = vminq_u8(least[t], distance);
      }
    }
  }
  for (int t = 0; t < kRows; ++t) smallest[t] = vminvq_u8(least[t]);
}

// A table of 16 * kVectors bytes; an index beyond gives 0.
template <int kVectors>
struct ByteTable;

template <>
struct ByteTable<2> {
  uint8x16x2_t bytes;
  explicit ByteTable(const uint8_t* b) : bytes(vld1q_u8_x2(b)) {}
  uint8x16_t operator[](uint8x16_t index) const { return vqtbl2q_u8(bytes, index); }
};

template <>
struct ByteTable<4> {
  uint8x16x4_t bytes;
  explicit ByteTable(const uint8_t* b) : bytes(vld1q_u8_x4(b)) {}
  uint8x16_t operator[](uint8x16_t index) const { return vqtbl4q_u8(bytes, index); }
};

template <>
struct ByteTable<8> {
  uint8x16x4_t low, high;
  explicit ByteTable(const uint8_t* b) : low(vld1q_u8_x4(b)), high(vld1q_u8_x4(b + 64)) {}
  uint8x16_t operator[](uint8x16_t index) const {
    return vqtbx4q_u8(vqtbl4q_u8(low, index), high, vsubq_u8(index, vdupq_n_u8(64)));
  }
};

// fixed_exp of every distance beyond the smallest.
struct alignas(64) ExponentialTable {
  float values[kTableSize];
  uint8_t low[kTableSize], high[kTableSize];  // the two bytes; 32768 fits
  bool falling;                               // none is above the one before

  void fill(int64_t head_size, int32_t step, float score_scale) {
    constexpr int32_t kLane[4] = {0, 1, 2, 3};
    memset(this, 0, sizeof(*this));
    for (int32_t i = 0; i <= head_size; i += 4) {
      const int32x4_t index = vaddq_s32(vld1q_s32(kLane), vdupq_n_s32(i));
      const float32x4_t difference = vcvtq_f32_s32(vmulq_n_s32(index, -step));
      const float32x4_t e = fixed_exp_and_rounding(vmulq_n_f32(difference, score_scale));
      vst1q_f32(values + i, vsubq_f32(e, vdupq_n_f32(kRounding)));
      uint32_t integers[4];
      vst1q_u32(integers, vreinterpretq_u32_f32(e));
      for (int lane = 0; lane < 4; ++lane) {
        low[i + lane] = static_cast<uint8_t>(integers[lane]);
        high[i + lane] = static_cast<uint8_t>(integers[lane] >> 8);
      }
    }
    falling = true;
    for (int64_t i = 1; i <= head_size; ++i) falling = falling && values[i] <= values[i - 1];
  }
};

// The factor r of the softmax of one query, from its distances. keys > 0; kVectors vectors hold all exponentials beyond
// the smallest distance.
template <int kVectors>
inline float softmax_factor(const ExponentialTable& exponentials, uint8_t smallest, int64_t keys,
                            float probability_inverse_step, const uint8_t* row) {
  const uint8x16_t least = vdupq_n_u8(smallest);
  const ByteTable<kVectors> low_bytes(exponentials.low), high_bytes(exponentials.high);
  uint32x4_t low = vdupq_n_u32(0), high = vdupq_n_u32(0);
  for (int64_t j = 0; j < keys; j += 16) {
    const uint8x16_t index = vsubq_u8(vld1q_u8(row + j), least);
    low = vpadalq_u16(low, vpaddlq_u8(low_bytes[index]));
    high = vpadalq_u16(high, vpaddlq_u8(high_bytes[index]));
  }
  const int64_t sum = vaddvq_u32(low) + (static_cast<int64_t>(vaddvq_u32(high)) << 8);
  return probability_inverse_step / static_cast<float>(sum);
}

inline Floats quotients(const ExponentialTable& exponentials, int64_t i, float r) {
  Floats z = load_sixteen(exponentials.values + i);
  for (int q = 0; q < 4; ++q) z.v[q] = vmulq_n_f32(z.v[q], r);
  return z;
}

// Distances of one query, in place, to probabilities; zero for keys after the last.
template <int kVectors>
inline void store_probabilities(const ExponentialTable& exponentials, uint8_t smallest, int64_t keys, float r,
                                const ProbabilityBytes& probability, uint8_t* row) {
  const CodeRange range(probability.code);
  uint8_t bytes[16 * kVectors];
  for (int i = 0; i < 16 * kVectors; i += 16) {
    const Floats z = quotients(exponentials, i, r);
    const uint8x16_t byte = probability.code.width == 8
                                ? vaddq_u8(range.levels(z), vdupq_n_u8(probability.add))
                                : vbslq_u8(range.bits(z), vdupq_n_u8(probability.one), vdupq_n_u8(probability.zero));
    vst1q_u8(bytes + i, byte);
  }
  const ByteTable<kVectors> probabilities(bytes);
  for (int64_t j = 0; j < keys; j += 16) {
    vst1q_u8(row + j, probabilities[vsubq_u8(vld1q_u8(row + j), vdupq_n_u8(smallest))]);
  }
}

// The least distance whose probability, of width 1, is 0, where exponentials are falling and r is not negative.
inline uint8_t softmax_limit(const ExponentialTable& exponentials, uint8_t smallest, float r, const CodeRange& range) {
  uint32_t limit = smallest;
  for (int i = 0; i < kTableSize; i += 16) {
    const uint32_t ones = vaddvq_u8(vshrq_n_u8(range.bits(quotients(exponentials, i, r)), 7));
    limit += ones;
    if (ones < 16) break;
  }
  return static_cast<uint8_t>(limit);  // at most 127 + 128, the distance of keys after the last
}

// The same without softmax: dot > 0 where distance < head_size / step.
inline uint8_t boolean_limit(int64_t step, int64_t head_size) {
  return static_cast<uint8_t>((head_size + step - 1) / step);
}

// Distances below the limit to bits; `count` is a multiple of 64.
inline void pack_below(const uint8_t* row, int64_t count, uint8_t limit, uint8_t* bits) {
  const uint8x16_t end = vdupq_n_u8(limit);
  for (int64_t j = 0; j < count; j += 64, row += 64) {
    const uint64_t word = pack_bits(vcltq_u8(vld1q_u8(row), end), vcltq_u8(vld1q_u8(row + 16), end),
                                    vcltq_u8(vld1q_u8(row + 32), end), vcltq_u8(vld1q_u8(row + 48), end));
    memcpy(bits + j / 8, &word, sizeof(word));
  }
}

// Bytes that are not zero to bits; `count` is a multiple of 64.
inline void pack_ones(const uint8_t* row, int64_t count, uint8_t* bits) {
  for (int64_t j = 0; j < count; j += 64, row += 64) {
    const auto ones = [row](int i) { return vtstq_u8(vld1q_u8(row + 16 * i), vld1q_u8(row + 16 * i)); };
    const uint64_t word = pack_bits(ones(0), ones(1), ones(2), ones(3));
    memcpy(bits + j / 8, &word, sizeof(word));
  }
}

// Distances of a query to dot products; `count` is a multiple of 16.
inline void widen_distances(const uint8_t* distances, int64_t count, int64_t head_size, int64_t step, int32_t* dots) {
  const int16x8_t most = vdupq_n_s16(static_cast<int16_t>(head_size));
  for (int64_t j = 0; j < count; j += 8) {
    const int16x8_t distance = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(distances + j)));
    const int16x8_t dot = vmlsq_n_s16(most, distance, static_cast<int16_t>(step));
    vst1q_s32(dots + j, vmovl_s16(vget_low_s16(dot)));
    vst1q_s32(dots + j + 4, vmovl_high_s16(dot));
  }
}

// The contexts of kRows queries and 64 channels (half of them with two vectors), of bool probabilities: low * pop(p) +
// (high - low) * pop(p & v). bits: [kRows, bytes]; value_planes: [bytes, 64]. Less than 2^15 keys.
template <int kVectors>
inline void context_bits(const uint8_t* bits, int64_t bytes, const uint8_t* value_planes, bool sign,
                         int16_t (&contexts)[kRows][kPlane]) {
  uint16x8_t ones[kRows];
  for (int t = 0; t < kRows; ++t) {
    uint32_t count = 0;
    for (int64_t p = 0; sign && p < bytes; p += 8) count += vaddv_u8(vcnt_u8(vld1_u8(bits + t * bytes + p)));
    ones[t] = vdupq_n_u16(static_cast<uint16_t>(-count));
  }
  const int16x8_t shift = vdupq_n_s16(sign);
  for (int64_t p = 0, count; p < bytes; p += count, value_planes += count * kPlane) {
    count = smaller(kMostCounts, bytes - p);
    uint8x16_t counts[kRows][4];
    count_planes<false, kVectors>(bits + p, bytes, value_planes, count, counts);
    BEBERT_UNROLL
    for (int t = 0; t < kRows; ++t) {
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const uint16x8_t halves[2] = {vmovl_u8(vget_low_u8(counts[t][v])), vmovl_high_u8(counts[t][v])};
        for (int h = 0; h < 2; ++h) {
          int16_t* to = contexts[t] + 16 * v + 8 * h;
          const uint16x8_t before = p == 0 ? ones[t] : vreinterpretq_u16_s16(vld1q_s16(to));
          vst1q_s16(to, vreinterpretq_s16_u16(vaddq_u16(before, vshlq_u16(halves[h], shift))));
        }
      }
    }
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_BITS_H_

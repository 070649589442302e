// SPDX-License-Identifier: Apache-2.0
// Codes of one bit a channel, or of two bits (ternary): 32 channels a word, sixteen output channels a vector; xor
// (sign), and (bool), or xor and then and with what is not zero (ternary, in one vpternlog), then count the bits.
//
// Weights: for each 64 output channels and each 32 channels of K, four bytes of each of the 64 rows, one after the
// other. Three vector operations for 512 products: the four 256-bit pipes of Zen 4 are full, whatever the tile. Summing
// two words in a carry-save adder of three vpternlog leaves five for 1024, and was slower (1150 against 1220 G products
// a second).
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_

#include "x86_avx512_tile.h"

namespace bebert {
namespace {

// Weights of a block and 32 channels of K.
constexpr int64_t kXnorStepBytes = kChannelBlock * 4;

void interleave_words(const uint8_t* rows, int64_t n, int64_t k, uint8_t* out) {
  const int64_t row_bytes = packed_row_bytes(k);
  for (int64_t c = 0; c < padded_channels(n); ++c) {
    uint8_t* to = out + c / kChannelBlock * kChannelBlock * row_bytes + c % kChannelBlock * 4;
    for (int64_t b = 0; b < row_bytes; b += 4, to += kXnorStepBytes) {
      if (c < n) {
        memcpy(to, rows + c * row_bytes + b, 4);
      } else {
        memset(to, 0, 4);
      }
    }
  }
}

inline int32_t load_int32(const uint8_t* bytes) {
  int32_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

inline int32_t count_ones(const uint8_t* bits, int64_t bytes) {
  int64_t count = 0;
  for (int64_t b = 0; b < bytes; b += 8) {
    uint64_t word;
    memcpy(&word, bits + b, sizeof(word));
    count += _mm_popcnt_u64(word);
  }
  return static_cast<int32_t>(count);
}

enum class Codes { sign, boolean, ternary };

inline bool by_bits(CodeType input) { return input.width == 1 || is_ternary(input); }

// A row of ternary codes: for each 32 channels the bits of those that are +1, and of those that are not 0; behind them
// how many are not 0. Bits of the padding are zero.
inline int64_t ternary_planes_bytes(int64_t k) { return 2 * packed_row_bytes(k); }
inline int64_t ternary_row_bytes(int64_t k) { return round_up(ternary_planes_bytes(k) + 4, 64); }

void build_ternary_rows(const uint8_t* codes, int64_t tokens, int64_t k, uint8_t* out) {
  const __m512i zero = _mm512_set1_epi8(1), plus = _mm512_set1_epi8(2);
  for (int64_t t = 0; t < tokens; ++t, codes += k, out += ternary_row_bytes(k)) {
    uint8_t* to = out;
    int64_t count = 0;
    for (int64_t c = 0; c < k; c += 64, to += 16) {
      const __mmask64 lanes = first_bits(k - c);
      const __m512i levels = _mm512_maskz_loadu_epi8(lanes, codes + c);
      const uint64_t positive = _mm512_mask_cmpeq_epu8_mask(lanes, levels, plus);
      const uint64_t not_zero = _mm512_mask_cmpneq_epu8_mask(lanes, levels, zero);
      const uint32_t words[4] = {static_cast<uint32_t>(positive), static_cast<uint32_t>(not_zero),
                                 static_cast<uint32_t>(positive >> 32), static_cast<uint32_t>(not_zero >> 32)};
      memcpy(to, words, sizeof(words));
      count += _mm_popcnt_u64(not_zero);
    }
    const int32_t ones = static_cast<int32_t>(count);
    memcpy(to, &ones, sizeof(ones));
  }
}

// count += number of bits. Written so that GCC keeps counts and weights in registers. `mask` is of ternary codes only.
// Their vpternlog overwrites an operand, and takes the weights from memory again (975 G products a second): copies of
// registers (926) and broadcasting `mask` each time (946) were slower.
template <Codes kCodes>
inline void add_count(__m512i word, __m512i mask, __m512i row_word, const uint8_t* weights, __m512i& count) {
#if defined(__GNUC__)
  __m512i bits;
  if (kCodes == Codes::ternary) {  // (row_word ^ word) & mask
    __asm__(
        "vmovdqa64 %[weights], %[bits]\n\tvpternlogd $0x28, %[mask], %[word], %[bits]\n\t"
        "vpopcntd %[bits], %[bits]\n\tvpaddd %[bits], %[count], %[count]"
        : [bits] "=&v"(bits), [count] "+v"(count)
        : [word] "v"(word), [mask] "v"(mask), [weights] "m"(*reinterpret_cast<const __m512i*>(weights)));
  } else if (kCodes == Codes::sign) {
    __asm__("vpxord %[word], %[row_word], %[bits]\n\tvpopcntd %[bits], %[bits]\n\tvpaddd %[bits], %[count], %[count]"
            : [bits] "=&v"(bits), [count] "+v"(count)
            : [word] "v"(word), [row_word] "v"(row_word));
  } else {
    __asm__("vpandd %[word], %[row_word], %[bits]\n\tvpopcntd %[bits], %[bits]\n\tvpaddd %[bits], %[count], %[count]"
            : [bits] "=&v"(bits), [count] "+v"(count)
            : [word] "v"(word), [row_word] "v"(row_word));
  }
#else
  const __m512i bits = kCodes == Codes::boolean ? _mm512_and_si512(word, row_word)
                       : kCodes == Codes::sign  ? _mm512_xor_si512(word, row_word)
                                                : _mm512_and_si512(_mm512_xor_si512(word, row_word), mask);
  count = _mm512_add_epi32(count, _mm512_popcnt_epi32(bits));
#endif
}

// The sums of kTokens tokens and a block of channels. Padding bits are zero in codes and weights, and so count in none
// of them. Rows of codes are `stride` bytes apart.
template <int kTokens, Codes kCodes, class Output>
BEBERT_NOINLINE void xnor_tile(const uint8_t* codes, int64_t stride, const uint8_t* weights, int64_t k,
                               const Output& output) {
  constexpr bool kTernary = kCodes == Codes::ternary;
  const int64_t row_bytes = packed_row_bytes(k);
  __m512i counts[kTokens][kVectors];
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) counts[t][v] = _mm512_setzero_si512();
  }
  for (int64_t b = 0; b < row_bytes; b += 4, weights += kXnorStepBytes) {
    __m512i row_words[kVectors];
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) row_words[v] = _mm512_load_si512(weights + 64 * v);
    BEBERT_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const uint8_t* words = codes + t * stride + (kTernary ? 2 * b : b);
      const __m512i word = _mm512_set1_epi32(load_int32(words));
      const __m512i mask = kTernary ? _mm512_set1_epi32(load_int32(words + 4)) : word;
      BEBERT_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        add_count<kCodes>(word, mask, row_words[v], weights + 64 * v, counts[t][v]);
      }
    }
  }
  int32_t offsets[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const uint8_t* row = codes + t * stride;
    offsets[t] = kTernary                ? load_int32(row + ternary_planes_bytes(k))
                 : kCodes == Codes::sign ? static_cast<int32_t>(k)
                                         : -count_ones(row, row_bytes);
  }
  // sign: k - 2 * (channels that differ), ternary: the same of those that are not 0; bool: 2 * (ones that meet a +1) -
  // ones.
  BEBERT_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    BEBERT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m512i offset = _mm512_set1_epi32(offsets[t]);
      const __m512i twice = _mm512_add_epi32(counts[t][v], counts[t][v]);
      output.write(t, v, kCodes == Codes::boolean ? _mm512_add_epi32(offset, twice) : _mm512_sub_epi32(offset, twice));
    }
  }
}

// The products of all tokens of a task and one block of channels. `output_of(token)` is the output of a tile.
template <Codes kCodes, class OutputOf>
void multiply_bits(const PackedBinaryMatMulTask& task, int64_t channel, OutputOf output_of) {
  constexpr bool kTernary = kCodes == Codes::ternary;
  const int64_t stride = kTernary ? ternary_row_bytes(task.k) : packed_row_bytes(task.k);
  const uint8_t* weights = task.weights + channel * packed_row_bytes(task.k);
  const uint8_t* codes = kTernary ? static_cast<const uint8_t*>(task.tables) : task.codes;
  int64_t t = 0;
  for (; t + kTokenTile <= task.tokens; t += kTokenTile, codes += kTokenTile * stride) {
    xnor_tile<kTokenTile, kCodes>(codes, stride, weights, task.k, output_of(t));
  }
  for (; t < task.tokens; ++t, codes += stride) {
    xnor_tile<1, kCodes>(codes, stride, weights, task.k, output_of(t));
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_X86_AVX512_XNOR_H_

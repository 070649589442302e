// SPDX-License-Identifier: Apache-2.0
// Reading and writing the codes of one head. Included by x86_avx2.cc only.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_CODES_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_CODES_H_

#include "../x86_avx2_arithmetic.h"
#include "binary_attention.h"

namespace bebert {
namespace {

// Channels of a head and keys of a sequence; more are left to the scalar path. Sums of so many products of 8-bit codes
// are below 2^31.
constexpr int64_t kMaximumLength = 32760;

// The values of the codes of one row as int16, 32 at a time; zeros up to `padded`, a multiple of 32.
inline void unpack_row(const uint8_t* row, int64_t channel, CodeType code, int64_t count, int64_t padded,
                       int16_t* values) {
  const __m256i low = _mm256_set1_epi16(static_cast<int16_t>(code.low));
  const __m256i step = _mm256_set1_epi16(static_cast<int16_t>(code.high - code.low));
  const __m256i bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
                                        static_cast<int16_t>(0x8000));
  for (int64_t d = 0; d < padded; d += 32, values += 32) {
    const int64_t left = count - d;
    if (left <= 0) {
      store_vector(values, _mm256_setzero_si256());
      store_vector(values + 16, _mm256_setzero_si256());
      continue;
    }
    __m256i halves[2];
    if (code.width == 8) {
      const __m256i levels = load_bytes(row + channel + d, left, static_cast<uint8_t>(0));
      halves[0] = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(levels));
      halves[1] = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(levels, 1));
    } else {
      const uint64_t word = load_bits(row, channel + d, smaller(left, 32));
      for (int i = 0; i < 2; ++i) {
        const __m256i bits = _mm256_and_si256(_mm256_set1_epi16(static_cast<int16_t>(word >> (16 * i))), bit);
        halves[i] = _mm256_and_si256(_mm256_cmpeq_epi16(bits, bit), step);
      }
    }
    for (int i = 0; i < 2; ++i) store_vector(values + 16 * i, _mm256_add_epi16(halves[i], low));
    for (int64_t i = left; i < 32; ++i) values[i] = 0;
  }
}

// Quantizes the contexts of one query into the codes of the head. `bits` is scratch of packed_row_bytes(head_size).
inline void store_codes(const AttentionHead& head, int64_t query, const int32_t* context, uint8_t* bits) {
  uint8_t* row = head.codes + query * head.codes_row_bytes;
  const int64_t head_size = head.config.head_size;
  const __m256 scale = _mm256_set1_ps(head.context_scale);
  const auto value = [&](int64_t d, const Lanes&) {
    return _mm256_mul_ps(_mm256_cvtepi32_ps(load_vector(context + d)), scale);
  };
  if (head.config.output.width == 8) return quantize_row(value, head_size, head.quantizer, row + head.codes_channel);
  const int64_t offset = head.codes_channel % 8;
  row += head.codes_channel / 8;
  if (offset == 0 && head_size % 64 == 0) return quantize_row(value, head_size, head.quantizer, row);
  quantize_row(value, head_size, head.quantizer, bits);
  for (int64_t byte = 0; byte < (head_size + 7) / 8; ++byte) {
    const uint32_t both = static_cast<uint32_t>(bits[byte]) << offset;
    row[byte] = static_cast<uint8_t>(row[byte] | both);
    if (both >> 8) row[byte + 1] = static_cast<uint8_t>(row[byte + 1] | both >> 8);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_X86_AVX2_CODES_H_

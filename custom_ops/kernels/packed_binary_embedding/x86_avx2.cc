// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx2_arithmetic.h"
#include "packed_binary_embedding.h"

namespace bebert {

void packed_binary_embedding_x86_avx2(const PackedBinaryEmbeddingRows& rows) {
  const __m256i to_sign = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);  // bit i of a byte to bit 31
  const __m256i sign = _mm256_set1_epi32(INT32_MIN);
  float* y = rows.y;
  for (int64_t t = 0; t < rows.tokens; ++t, y += rows.channels) {
    const int64_t id = rows.ids[t];
    const uint8_t* bits = rows.weight + id * packed_row_bytes(rows.channels);
    const __m256 minus = _mm256_set1_ps(-rows.scale[id]);
    for (int64_t c = 0; c < rows.channels; c += 8) {
      const __m256i ones = _mm256_and_si256(_mm256_sllv_epi32(_mm256_set1_epi32(bits[c / 8]), to_sign), sign);
      store_floats(y + c, Lanes(rows.channels - c), _mm256_xor_ps(minus, _mm256_castsi256_ps(ones)));
    }
  }
}

}  // namespace bebert

// SPDX-License-Identifier: Apache-2.0
#include "../x86_avx512_arithmetic.h"
#include "packed_binary_embedding.h"

namespace bebert {

void packed_binary_embedding_x86_avx512(const PackedBinaryEmbeddingRows& rows) {
  float* y = rows.y;
  for (int64_t t = 0; t < rows.tokens; ++t, y += rows.channels) {
    const int64_t id = rows.ids[t];
    const uint8_t* bits = rows.weight + id * packed_row_bytes(rows.channels);
    const __m512 plus = _mm512_set1_ps(rows.scale[id]), minus = _mm512_set1_ps(-rows.scale[id]);
    for (int64_t c = 0; c < rows.channels; c += 16) {
      uint16_t ones;
      memcpy(&ones, bits + c / 8, sizeof(ones));
      store_floats(y + c, first_lanes(rows.channels - c), _mm512_mask_mov_ps(minus, ones, plus));
    }
  }
}

}  // namespace bebert

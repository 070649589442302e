// SPDX-License-Identifier: Apache-2.0
#include "../arm64_neon_arithmetic.h"
#include "packed_binary_embedding.h"

namespace bebert {

void packed_binary_embedding_arm64_neon(const PackedBinaryEmbeddingRows& rows) {
  constexpr uint32_t kBit[16] = {1u << 0, 1u << 1, 1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,
                                 1u << 8, 1u << 9, 1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15};
  float* y = rows.y;
  for (int64_t t = 0; t < rows.tokens; ++t, y += rows.channels) {
    const int64_t id = rows.ids[t];
    const uint8_t* row = rows.weight + id * packed_row_bytes(rows.channels);
    const float32x4_t plus = vdupq_n_f32(rows.scale[id]), minus = vnegq_f32(plus);
    for_each_sixteen(rows.channels, [&](int64_t c, int64_t count) {
      uint16_t ones;
      memcpy(&ones, row + c / 8, sizeof(ones));
      const uint32x4_t bits = vdupq_n_u32(ones);
      Floats values;
      for (int i = 0; i < 4; ++i) values.v[i] = vbslq_f32(vtstq_u32(bits, vld1q_u32(kBit + 4 * i)), plus, minus);
      store_floats(y + c, count, values);
    });
  }
}

}  // namespace bebert

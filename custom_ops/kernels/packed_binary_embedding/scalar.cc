// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "packed_binary_embedding.h"

namespace bebert {

namespace {

// `count` <= 8 channels: scale where the bit is 1, -scale where it is 0.
void expand(uint8_t bits, uint32_t scale, int64_t count, float* y) {
  uint32_t signed_scale[8];
  for (uint32_t i = 0; i < 8; ++i) signed_scale[i] = scale ^ (~(uint32_t(bits) >> i) << 31);
  memcpy(y, signed_scale, static_cast<size_t>(count) * sizeof(float));
}

}  // namespace

void packed_binary_embedding_scalar(const PackedBinaryEmbeddingRows& rows) {
  const int64_t row_bytes = packed_row_bytes(rows.channels);
  for (int64_t t = 0; t < rows.tokens; ++t) {
    const uint8_t* weight = rows.weight + rows.ids[t] * row_bytes;
    uint32_t scale;
    memcpy(&scale, rows.scale + rows.ids[t], sizeof(scale));
    float* y = rows.y + t * rows.channels;
    int64_t c = 0;
    for (; c + 8 <= rows.channels; c += 8) expand(weight[c / 8], scale, 8, y + c);
    if (c < rows.channels) expand(weight[c / 8], scale, rows.channels - c, y + c);
  }
}

}  // namespace bebert

// SPDX-License-Identifier: Apache-2.0
#include "arm64_neon_head.h"
#include "arm64_neon_products.h"

namespace bebert {

void binary_attention_arm64_neon(const AttentionHead& head) { run_head<Int16Products>(head); }

size_t binary_attention_scratch_arm64_neon(const AttentionConfig& config, int64_t queries, int64_t keys) {
  return head_scratch<Int16Products>(config, queries, keys);
}

}  // namespace bebert

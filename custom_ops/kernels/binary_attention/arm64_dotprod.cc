// SPDX-License-Identifier: Apache-2.0
#include "arm64_dotprod_products.h"
#include "arm64_neon_head.h"

namespace bebert {

void binary_attention_arm64_dotprod(const AttentionHead& head) { run_head<DotProducts>(head); }

size_t binary_attention_scratch_arm64_dotprod(const AttentionConfig& config, int64_t queries, int64_t keys) {
  return head_scratch<DotProducts>(config, queries, keys);
}

}  // namespace bebert

// SPDX-License-Identifier: Apache-2.0
#include "paths.h"

namespace bebert {

bool compiled(Isa which) {
#define KERNEL(isa) \
  if (which == Isa::isa) return true;
#include "../kernels/add_layer_norm_quantize/kernels.inc"
#include "../kernels/binary_attention/kernels.inc"
#include "../kernels/packed_binary_embedding/kernels.inc"
#include "../kernels/packed_binary_matmul/kernels.inc"
#include "../kernels/quantize/kernels.inc"
#undef KERNEL
  return false;
}

bool available(Isa isa, CpuFlags flags) { return compiled(isa) && supported(isa, flags); }

void list_available(Text& text, CpuFlags flags, const char* separator) {
  const char* before = "";
  for (int i = kIsaCount - 1; i >= 0; --i) {
    if (!available(Isa(i), flags)) continue;
    text << before << name(Isa(i));
    before = separator;
  }
}

bool choose_path(const char* forced, CpuFlags flags, Isa* isa, Text* reason) {
  const bool free = !forced || !*forced;
  for (int i = kIsaCount - 1; i >= 0; --i) {
    if (!available(Isa(i), flags)) continue;
    if (!free && !equal(forced, name(Isa(i)))) continue;
    *isa = Isa(i);
    return true;
  }
  *reason << "\"" << forced << "\"";
  bool known = false;
  for (int i = 0; i < kIsaCount; ++i) known = known || equal(forced, name(Isa(i)));
  *reason << (known ? " does not run here" : " is not a CPU path") << "; CPU paths:";
  for (int i = 0; i < kIsaCount; ++i) *reason << (i ? ", " : " ") << name(Isa(i));
  *reason << "; this library on this machine runs: ";
  list_available(*reason, flags, ", ");
  return false;
}

}  // namespace bebert

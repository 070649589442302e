// SPDX-License-Identifier: Apache-2.0
// What may stand between a number and its quantization. Each CPU path has its `activate`, in <path>_arithmetic.h.
#ifndef BEBERT_EDGE_KERNELS_ACTIVATION_H_
#define BEBERT_EDGE_KERNELS_ACTIVATION_H_

#include <stdint.h>

namespace bebert {

// The values of the attribute `activation`.
enum class Activation : int32_t { none = 0, relu = 1, gelu = 2 };

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_ACTIVATION_H_

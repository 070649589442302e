// SPDX-License-Identifier: Apache-2.0
#ifndef BEBERT_EDGE_KERNELS_ARM64_NEON_INTRINSICS_H_
#define BEBERT_EDGE_KERNELS_ARM64_NEON_INTRINSICS_H_

#include <arm_neon.h>

#include "compiler.h"

// Of a lambda, behind its parameters.
#if defined(__GNUC__)
#define BEBERT_INLINE __attribute__((always_inline))
#else
#define BEBERT_INLINE
#endif

#endif  // BEBERT_EDGE_KERNELS_ARM64_NEON_INTRINSICS_H_

// SPDX-License-Identifier: Apache-2.0
#ifndef BEBERT_EDGE_KERNELS_ARM64_NEON_INTRINSICS_H_
#define BEBERT_EDGE_KERNELS_ARM64_NEON_INTRINSICS_H_

#include <arm_neon.h>

// Before a loop over an array of vectors: keeps the array in registers.
#if defined(__clang__)
#define BEBERT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define BEBERT_UNROLL _Pragma("GCC unroll 16")
#else
#define BEBERT_UNROLL
#endif

// Keeps a vector that is used several times in a register: GCC would compute or load it again for each use.
#if defined(__GNUC__)
#define BEBERT_KEEP(vector) __asm__("" : "+w"(vector))
#else
#define BEBERT_KEEP(vector)
#endif

#endif  // BEBERT_EDGE_KERNELS_ARM64_NEON_INTRINSICS_H_

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

#if defined(__GNUC__)
// Keeps the registers of an innermost loop from what surrounds it.
#define BEBERT_NOINLINE __attribute__((noinline))
// Of a lambda, behind its parameters.
#define BEBERT_INLINE __attribute__((always_inline))
#else
#define BEBERT_NOINLINE
#define BEBERT_INLINE
#endif

#endif  // BEBERT_EDGE_KERNELS_ARM64_NEON_INTRINSICS_H_

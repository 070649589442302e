// SPDX-License-Identifier: Apache-2.0
// Hints to the compiler.
#ifndef BEBERT_EDGE_KERNELS_COMPILER_H_
#define BEBERT_EDGE_KERNELS_COMPILER_H_

// Before a loop over an array of vectors: keeps the array in registers.
#if defined(__clang__)
#define BEBERT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define BEBERT_UNROLL _Pragma("GCC unroll 16")
#else
#define BEBERT_UNROLL
#endif

// Before a function whose loop needs all registers: inlined, it would share them with its caller.
#if defined(__GNUC__)
#define BEBERT_NOINLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define BEBERT_NOINLINE __declspec(noinline)
#else
#define BEBERT_NOINLINE
#endif

#endif  // BEBERT_EDGE_KERNELS_COMPILER_H_

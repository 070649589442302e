// SPDX-License-Identifier: Apache-2.0
#ifndef BEBERT_EDGE_KERNELS_X86_AVX512_INTRINSICS_H_
#define BEBERT_EDGE_KERNELS_X86_AVX512_INTRINSICS_H_

// GCC 12 warns of the undefined vectors in its own header: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "compiler.h"

// Keeps a vector that is used several times in a register: GCC would load it again for each use.
#if defined(__GNUC__)
#define BEBERT_KEEP(vector) __asm__("" : "+v"(vector))
#else
#define BEBERT_KEEP(vector)
#endif

#endif  // BEBERT_EDGE_KERNELS_X86_AVX512_INTRINSICS_H_

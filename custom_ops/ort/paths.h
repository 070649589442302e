// SPDX-License-Identifier: Apache-2.0
// Which CPU path is live.
#ifndef BEBERT_EDGE_ORT_PATHS_H_
#define BEBERT_EDGE_ORT_PATHS_H_

#include "../kernels/cpu.h"
#include "text.h"

namespace bebert {

// Whether this library has a kernel of the path for any op.
bool compiled(Isa isa);

// Both: what this machine can be asked to run.
bool available(Isa isa, CpuFlags flags);

// "x86_avx512, scalar": the available paths, best first.
void list_available(Text& text, CpuFlags flags, const char* separator);

// The path called `forced`, or the best available one where `forced` is null or empty. False, with the reason, where
// `forced` is not the name of an available path: never another path than the one asked for.
bool choose_path(const char* forced, CpuFlags flags, Isa* isa, Text* reason);

}  // namespace bebert

#endif  // BEBERT_EDGE_ORT_PATHS_H_

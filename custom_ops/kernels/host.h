// SPDX-License-Identifier: Apache-2.0
// What a driver may ask of its host: onnxruntime, or a test or benchmark program.
#ifndef BEBERT_EDGE_KERNELS_HOST_H_
#define BEBERT_EDGE_KERNELS_HOST_H_

#include <stddef.h>

namespace bebert {

struct Host {
  void* context;
  // Calls task(argument, 0) .. task(argument, tasks - 1), in any order and on any thread; returns when all are done.
  void (*parallel_for)(void* context, void (*task)(void* argument, size_t index), size_t tasks, void* argument);
  // 64-byte aligned memory, or null. Both may be called inside tasks, on any thread.
  void* (*allocate)(void* context, size_t bytes);
  void (*release)(void* context, void* memory);
};

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_HOST_H_

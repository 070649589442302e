// SPDX-License-Identifier: Apache-2.0
// Scratch memory of one task: one block from the host, handed out piece by piece.
#ifndef BEBERT_EDGE_KERNELS_MEMORY_H_
#define BEBERT_EDGE_KERNELS_MEMORY_H_

#include <stddef.h>
#include <stdint.h>

namespace bebert {

constexpr size_t kAlignment = 64;

static inline size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Pieces of a block, each on a 64-byte boundary. With a null block it only counts, so that one function can both state
// its need and use the memory.
class Workspace {
 public:
  explicit Workspace(void* block) : block_(static_cast<uint8_t*>(block)) {}

  template <class T>
  T* take(int64_t count) {
    T* piece = block_ ? reinterpret_cast<T*>(block_ + used_) : nullptr;
    used_ += aligned(static_cast<size_t>(count) * sizeof(T));
    return piece;
  }

  size_t used() const { return used_; }

 private:
  uint8_t* block_;
  size_t used_ = 0;
};

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_MEMORY_H_

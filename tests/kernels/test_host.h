// SPDX-License-Identifier: Apache-2.0
#ifndef BEBERT_EDGE_TESTS_KERNELS_TEST_HOST_H_
#define BEBERT_EDGE_TESTS_KERNELS_TEST_HOST_H_

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "../../custom_ops/kernels/host.h"
#include "../../custom_ops/kernels/memory.h"
#include "guarded.h"

namespace bebert {

// Runs tasks from the last to the first, or on two threads; scratch memory is guarded.
class TestHost {
 public:
  bool threads = false;
  std::atomic<int64_t> left{INT64_MAX};  // allocations until memory runs out
  uint8_t initial = 0xa5;                // every byte of scratch memory

  Host host() { return {this, parallel_for, allocate, release}; }
  bool all_released() const { return memory_.empty(); }
  bool refused() const { return left < 0; }

 private:
  static void parallel_for(void* context, void (*task)(void*, size_t), size_t tasks, void* argument) {
    std::atomic<size_t> left{tasks};
    const auto work = [&] {
      for (size_t i = left; i > 0;) {
        if (left.compare_exchange_weak(i, i - 1)) task(argument, i - 1);
      }
    };
    if (!static_cast<TestHost*>(context)->threads || tasks < 2) return work();
    std::thread other(work);
    work();
    other.join();
  }

  static void* allocate(void* context, size_t bytes) {
    TestHost& self = *static_cast<TestHost*>(context);
    if (--self.left < 0) return nullptr;
    auto memory = std::make_unique<Guarded>(bytes, kAlignment, self.initial);
    void* const data = memory->data();
    const std::lock_guard<std::mutex> lock(self.mutex_);
    self.memory_[data] = std::move(memory);
    return data;
  }

  static void release(void* context, void* data) {
    TestHost& self = *static_cast<TestHost*>(context);
    const std::lock_guard<std::mutex> lock(self.mutex_);
    if (self.memory_.erase(data) == 0) fail("released memory that it does not have");
  }

  std::mutex mutex_;
  std::map<void*, std::unique_ptr<Guarded>> memory_;
};

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_TEST_HOST_H_

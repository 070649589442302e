// SPDX-License-Identifier: Apache-2.0
// Memory between guard pages: a read or write outside it is a fault, or found when the memory is given back.
#ifndef BEBERT_EDGE_TESTS_KERNELS_GUARDED_H_
#define BEBERT_EDGE_TESTS_KERNELS_GUARDED_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bebert {

// Printed with every failure: the command that runs the failing case again, or nothing.
inline char reproduction[128] = "";

[[noreturn]] inline void fail(const char* what) {
  std::printf("FAILED %s\n%s", what, reproduction);
  std::fflush(stdout);
  std::_Exit(1);
}

// What memory touches: the guard page after its end, as far as its alignment lets it, or the one before its start.
enum class Flush { end, start };

// Of all memory that is taken from now on.
inline Flush flush = Flush::end;

// `bytes` between two pages that may not be touched. What is beside it in its pages must not change.
class Guarded {
 public:
  Guarded(size_t bytes, size_t alignment, uint8_t initial)
      : bytes_(bytes), page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    inside_ = (bytes + page_ - 1) / page_ * page_;
    void* base = mmap(nullptr, inside_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) std::abort();
    begin_ = static_cast<uint8_t*>(base) + page_;
    if (inside_ > 0 && mprotect(begin_, inside_, PROT_READ | PROT_WRITE) != 0) std::abort();
    data_ = begin_ + (flush == Flush::end ? (inside_ - bytes) / alignment * alignment : 0);
    memset(data_ - before(), kSlack, before());
    memset(data_, initial, bytes);
    memset(data_ + bytes, kSlack, after());
  }

  ~Guarded() {
    for (size_t i = 1; i <= before(); ++i) check(data_[-static_cast<ptrdiff_t>(i)]);
    for (size_t i = 0; i < after(); ++i) check(data_[bytes_ + i]);
    munmap(begin_ - page_, inside_ + 2 * page_);
  }

  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  static constexpr uint8_t kSlack = 0x6b;
  static constexpr size_t kChecked = 256;  // bytes on either side

  static void check(uint8_t slack) {
    if (slack != kSlack) fail("wrote outside of its memory");
  }
  static size_t at_most(size_t a, size_t b) { return a < b ? a : b; }
  size_t before() const { return at_most(static_cast<size_t>(data_ - begin_), kChecked); }
  size_t after() const { return at_most(inside_ - bytes_ - static_cast<size_t>(data_ - begin_), kChecked); }

  size_t bytes_, page_, inside_;
  uint8_t *begin_, *data_;
};

// An array in guarded memory. Without an initial value that says otherwise it starts as bytes of 0xa5.
template <class T>
class Array {
 public:
  explicit Array(int64_t count, size_t alignment = alignof(T), uint8_t initial = 0xa5)
      : memory_(static_cast<size_t>(count) * sizeof(T), alignment, initial) {}

  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  int64_t size() const { return static_cast<int64_t>(memory_.bytes() / sizeof(T)); }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  Guarded memory_;
};

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_GUARDED_H_

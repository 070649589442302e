// SPDX-License-Identifier: Apache-2.0
// What the tests of the kernels share: random inputs, memory that ends at a guard page, a host, comparison.
#ifndef BEBERT_EDGE_TESTS_KERNELS_SUPPORT_H_
#define BEBERT_EDGE_TESTS_KERNELS_SUPPORT_H_

#include <stdint.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "../../custom_ops/kernels/codes.h"
#include "../../custom_ops/kernels/cpu.h"
#include "../../custom_ops/kernels/host.h"

namespace bebert {

constexpr CodeType kCodeTypes[] = {{1, -1, 1}, {1, 0, 1},  {8, -1, 1},  {8, -2, 1},    {8, -8, 7},
                                   {8, 0, 3},  {8, 0, 15}, {8, 0, 255}, {8, -128, 127}};

// The sequence of splitmix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t end) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(end)); }
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(bits() >> 40) / 16777216.0f; }
  template <class T, size_t n>
  T pick(const T (&items)[n]) {
    return items[below(n)];
  }

 private:
  uint64_t state_;
};

// An array whose end is the end of a page, before one that may not be touched. It starts as bytes of 0xa5.
template <class T>
class Array {
 public:
  explicit Array(int64_t count) : bytes_(static_cast<size_t>(count) * sizeof(T)) {
#if defined(__unix__) || defined(__APPLE__)
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (bytes_ + page - 1) / page * page + page;
    void* base = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) std::abort();
    base_ = static_cast<uint8_t*>(base);
    if (mprotect(base_ + mapped_ - page, page, PROT_NONE) != 0) std::abort();
    data_ = base_ + mapped_ - page - bytes_;
#else
    data_ = base_ = static_cast<uint8_t*>(_aligned_malloc(bytes_ + 64, 64));
#endif
    memset(data_, 0xa5, bytes_);
  }
  ~Array() {
#if defined(__unix__) || defined(__APPLE__)
    munmap(base_, mapped_);
#else
    _aligned_free(base_);
#endif
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return reinterpret_cast<T*>(data_); }
  int64_t size() const { return static_cast<int64_t>(bytes_ / sizeof(T)); }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  size_t bytes_, mapped_ = 0;
  uint8_t *base_, *data_;
};

// Rows of valid codes; padding bits are zero.
inline void fill_codes(Random& random, CodeType code, int64_t rows, int64_t channels, uint8_t* out) {
  const int64_t row_bytes = code_row_bytes(code, channels);
  memset(out, 0, static_cast<size_t>(rows * row_bytes));
  for (int64_t r = 0; r < rows; ++r, out += row_bytes) {
    for (int64_t c = 0; c < channels; ++c) {
      if (code.width == 8) {
        out[c] = static_cast<uint8_t>(random.below(code.high - code.low + 1));
      } else {
        out[c / 8] = static_cast<uint8_t>(out[c / 8] | random.below(2) << (c % 8));
      }
    }
  }
}

inline int32_t code_value(CodeType code, const uint8_t* row, int64_t channel) {
  if (code.width == 8) return code.low + row[channel];
  return row[channel / 8] >> (channel % 8) & 1 ? code.high : code.low;
}

inline void fill_floats(Random& random, float low, float high, const Array<float>& out) {
  for (int64_t i = 0; i < out.size(); ++i) out[i] = random.uniform(low, high);
}

// Shifts, and inverse steps with which values of unit size take all codes.
inline void fill_quantizer(Random& random, CodeType code, const Array<float>& shift, const Array<float>& inverse_step) {
  fill_floats(random, -0.1f, 0.1f, shift);
  fill_floats(random, 0.8f, 1.2f, inverse_step);
  const float levels = static_cast<float>(code.high > 1 ? code.high : 1);
  for (int64_t i = 0; i < inverse_step.size(); ++i) inverse_step[i] *= levels;
}

// Runs tasks from the last to the first; scratch memory starts as bytes of 0xa5.
struct TestHost {
  bool out_of_memory = false;
  int64_t allocated = 0;

  Host host() { return {this, parallel_for, allocate, release}; }

  static void parallel_for(void*, void (*task)(void*, size_t), size_t tasks, void* argument) {
    for (size_t i = tasks; i > 0; --i) task(argument, i - 1);
  }
  static void* allocate(void* context, size_t bytes) {
    TestHost& self = *static_cast<TestHost*>(context);
    if (self.out_of_memory) return nullptr;
    ++self.allocated;
    const size_t whole = (bytes + 63) / 64 * 64 + 64;
#if defined(_MSC_VER)
    void* memory = _aligned_malloc(whole, 64);
#else
    void* memory = aligned_alloc(64, whole);
#endif
    memset(memory, 0xa5, whole);
    return memory;
  }
  static void release(void* context, void* memory) {
    --static_cast<TestHost*>(context)->allocated;
#if defined(_MSC_VER)
    _aligned_free(memory);
#else
    free(memory);
#endif
  }
};

// The paths of this machine, without scalar.
inline std::vector<Isa> paths() {
  const CpuFlags flags = detect();
  std::vector<Isa> found;
  for (int i = 1; i < kIsaCount; ++i) {
    if (supported(Isa(i), flags)) found.push_back(Isa(i));
  }
  return found;
}

// Compares two outputs byte by byte; `what` describes the case.
template <class T>
void expect_same(const Array<T>& found, const Array<T>& expected, const char* what) {
  for (int64_t i = 0; i < expected.size(); ++i) {
    if (memcmp(&found[i], &expected[i], sizeof(T)) == 0) continue;
    std::printf("FAILED %s: element %lld is %.9g, expected %.9g\n", what, static_cast<long long>(i),
                static_cast<double>(found[i]), static_cast<double>(expected[i]));
    std::exit(1);
  }
}

inline void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED %s\n", what);
  std::exit(1);
}

void test_packed_binary_matmul(uint64_t seed);
void test_packed_binary_matmul_zero_ranges(uint64_t seed);
void test_binary_attention(uint64_t seed);
void test_rows(uint64_t seed);

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_SUPPORT_H_

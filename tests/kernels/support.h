// SPDX-License-Identifier: Apache-2.0
// What the tests of the kernels share: random inputs, paths, comparison.
#ifndef BEBERT_EDGE_TESTS_KERNELS_SUPPORT_H_
#define BEBERT_EDGE_TESTS_KERNELS_SUPPORT_H_

#include <stdarg.h>
#include <stdint.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../../custom_ops/kernels/codes.h"
#include "../../custom_ops/ort/paths.h"
#include "guarded.h"

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
  bool one_in(int64_t chances) { return below(chances) == 0; }
  template <class T, size_t n>
  T pick(const T (&items)[n]) {
    return items[below(n)];
  }

 private:
  uint64_t state_;
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

inline float largest_value(CodeType code) { return static_cast<float>(code.high > -code.low ? code.high : -code.low); }

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

// The paths that this machine can be asked to run, without scalar.
inline std::vector<Isa> paths() {
  const CpuFlags flags = detect();
  std::vector<Isa> found;
  for (int i = 1; i < kIsaCount; ++i) {
    if (available(Isa(i), flags)) found.push_back(Isa(i));
  }
  return found;
}

// What printf would print.
__attribute__((format(printf, 1, 2))) inline std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof(text), pattern, arguments);
  va_end(arguments);
  return text;
}

inline std::string text(CodeType code) { return format("[%d, %d, %d]", code.width, code.low, code.high); }

inline void expect(bool condition, const std::string& what) {
  if (!condition) fail(what.c_str());
}

// Compares two outputs byte by byte; `what` describes the case.
template <class T>
void expect_same(const Array<T>& found, const Array<T>& expected, const std::string& what) {
  for (int64_t i = 0; i < expected.size(); ++i) {
    if (memcmp(&found[i], &expected[i], sizeof(T)) == 0) continue;
    fail(format("%s: element %lld is %.9g, expected %.9g", what.c_str(), static_cast<long long>(i),
                static_cast<double>(found[i]), static_cast<double>(expected[i]))
             .c_str());
  }
}

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_SUPPORT_H_

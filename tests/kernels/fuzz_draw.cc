// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "fuzz.h"

namespace bebert {

namespace {

constexpr int64_t kAwkward[] = {1,  2,  3,  4,  7,   8,   9,   15,  16,  17,  24,  31,  32,  33,  47,  48,  49,  63,
                                64, 65, 96, 97, 127, 128, 129, 191, 192, 193, 255, 256, 257, 512, 767, 768, 769, 1000};
constexpr float kSpecial[] = {0.0f, -0.0f, 1e-45f, -1e-40f, 1e-30f, -1e-30f,       1.0f,          -1.0f,
                              0.5f, 1e10f, -1e10f, 1e30f,   -1e30f, 1.8446744e19f, -1.8446744e19f};
constexpr float kSpecialPositive[] = {1e-45f, 1e-40f, 1e-30f, 1e-3f, 1.0f, 1e3f, 1e30f};

float tie(Random& random, CodeType code) {
  if (code.width == 1) return 0.5f * static_cast<float>(code.low + code.high);
  return static_cast<float>(code.low + random.below(code.high - code.low)) + 0.5f;
}

template <size_t n>
void vary(Random& random, const Array<float>& floats, const float (&special)[n]) {
  if (floats.size() == 0) return;
  switch (random.below(8)) {
    case 0:
      for (int64_t i = 0; i < floats.size(); ++i) floats[i] = floats[0];
      break;
    case 1:
      for (int64_t i = 0; i < floats.size(); ++i) floats[i] = special[0];
      break;
    case 2: {
      const int64_t chances = 1 + random.below(100);
      for (int64_t i = 0; i < floats.size(); ++i) {
        if (random.one_in(chances)) floats[i] = random.pick(special);
      }
      break;
    }
    default:
      break;
  }
}

}  // namespace

int64_t draw_size(Random& random, int64_t most) {
  const int64_t awkward = random.pick(kAwkward);
  if (awkward <= most && random.one_in(2)) return awkward;
  return static_cast<int64_t>(std::exp(random.uniform(0, std::log(static_cast<float>(most)))));
}

void limit_product(int64_t most, std::vector<int64_t*> sizes) {
  const auto product = [&] {
    int64_t all = 1;
    for (const int64_t* size : sizes) all *= *size;
    return all;
  };
  const auto smaller = [](const int64_t* a, const int64_t* b) { return *a < *b; };
  while (product() > most) {
    int64_t& largest = **std::max_element(sizes.begin(), sizes.end(), smaller);
    largest = (largest + 1) / 2;
  }
}

void vary_codes(Random& random, CodeType code, int64_t rows, int64_t channels, uint8_t* codes) {
  const int64_t row_bytes = code_row_bytes(code, channels);
  const auto set = [&](int64_t row, int64_t channel, bool high) {
    uint8_t* bytes = codes + row * row_bytes;
    if (code.width == 8) {
      bytes[channel] = static_cast<uint8_t>(high ? code.high - code.low : 0);
    } else {
      const int bit = 1 << (channel % 8);
      bytes[channel / 8] = static_cast<uint8_t>(high ? bytes[channel / 8] | bit : bytes[channel / 8] & ~bit);
    }
  };
  switch (random.below(8)) {
    case 0:  // each row at one end
      for (int64_t r = 0; r < rows; ++r) {
        const bool high = random.one_in(2);
        for (int64_t c = 0; c < channels; ++c) set(r, c, high);
      }
      break;
    case 1:  // rows alike
      for (int64_t r = 1; r < rows; ++r) memcpy(codes + r * row_bytes, codes, static_cast<size_t>(row_bytes));
      break;
    case 2: {  // few at one end
      const bool rare = random.one_in(2);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < channels; ++c) set(r, c, random.one_in(50) == rare);
      }
      break;
    }
    default:
      break;
  }
}

void vary_floats(Random& random, const Array<float>& floats) {
  vary(random, floats, kSpecial);
  if (!random.one_in(8)) return;
  for (int64_t i = 0; i < floats.size(); ++i) floats[i] = random.one_in(2) ? -floats[i] : floats[i];
}

void vary_positive_floats(Random& random, const Array<float>& floats) { vary(random, floats, kSpecialPositive); }

void tie_exactly(Random& random, CodeType code, float unit, float spread, const Array<float>& shift,
                 const Array<float>& inverse_step) {
  // z is a multiple of 1 / 2 where two multiples of `unit` are one code.
  const float levels = static_cast<float>(code.high - code.low);
  const float coarse = spread > levels ? std::exp2(std::floor(std::log2(spread / levels))) : 1.0f;
  for (int64_t i = 0; i < shift.size(); ++i) {
    shift[i] = unit * std::floor(random.uniform(-4.0f * coarse, 4.0f * coarse));
    inverse_step[i] = random.pick({0.5f, 0.5f, 0.5f, -0.5f, 1.5f, 0.25f}) / (unit * coarse);
  }
}

void tie_nearly(Random& random, CodeType code, int64_t channels, const Array<float>& y, const Array<float>& shift,
                const Array<float>& inverse_step) {
  if (y.size() == 0) return;
  const int64_t tokens = y.size() / shift.size();
  for (int64_t i = 0; i < shift.size(); ++i) {
    if (inverse_step[i] == 0) continue;
    const int64_t row = i / channels * tokens + random.below(tokens);
    float near = tie(random, code) / inverse_step[i] - y[row * channels + i % channels];
    for (int64_t steps = random.below(4); steps > 0; --steps)
      near = std::nextafter(near, random.one_in(2) ? -9e9f : 9e9f);
    if (std::abs(near) < 1e31f) shift[i] = near;
  }
}

}  // namespace bebert

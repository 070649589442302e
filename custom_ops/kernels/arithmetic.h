// SPDX-License-Identifier: Apache-2.0
// The float arithmetic of docs/ops.md, one rounding per written operation. Compile with -ffp-contract=off.
#ifndef BEBERT_EDGE_KERNELS_ARITHMETIC_H_
#define BEBERT_EDGE_KERNELS_ARITHMETIC_H_

#include <stdint.h>
#include <string.h>

#include "activation.h"
#include "codes.h"

namespace bebert {

static inline float minimum(float a, float b) { return a < b ? a : b; }
static inline float maximum(float a, float b) { return a > b ? a : b; }

// Nearest integer, ties to even, for |x| <= 2^22: adding 1.5 * 2^23 leaves no bits below the units.
static inline float round_to_even(float x) {
  constexpr float kShift = 12582912.0f;
  return (x + kShift) - kShift;
}

// 2^exponent for exponents of normal numbers.
static inline float power_of_two(int32_t exponent) {
  const int32_t bits = (exponent + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof(power));
  return power;
}

// round(32768 * exp(t)) for t <= 0: "fixed_exp".
static inline float fixed_exp(float t) {
  const float u = maximum(t * 1.4426950408889634f, -18.0f);
  const float n = round_to_even(u);
  const float f = u - n;
  float m = 0.001326472731307149f;
  m = m * f + 0.009671512991189957f;
  m = m * f + 0.05550733581185341f;
  m = m * f + 0.24022242426872253f;
  m = m * f + 0.6931470036506653f;
  m = m * f + 1.0f;
  return round_to_even(m * power_of_two(15 + static_cast<int32_t>(n)));
}

// x * Phi(x): "GELU".
static inline float gelu(float x) {
  constexpr float kSaturation = 5.5547f;
  const float xc = minimum(maximum(x, -kSaturation), kSaturation);
  const float s = xc * xc;
  float p = 2.193209169831789e-08f;
  p = p * s + 6.560832844115794e-06f;
  p = p * s + 0.00018675551109481603f;
  p = p * s + 0.004784971475601196f;
  p = p * s + 0.035520654171705246f;
  p = p * s + 0.39894193410873413f;
  float q = 1.1893866940226872e-06f;
  q = q * s + 7.988296420080587e-05f;
  q = q * s + 0.0019842907786369324f;
  q = q * s + 0.029615813866257668f;
  q = q * s + 0.2557002305984497f;
  q = q * s + 1.0f;
  const float phi = minimum(maximum(0.5f + xc * p / q, 1.490116119384765625e-08f), 1.0f);
  return x <= -kSaturation ? 0.0f : x * phi;
}

static inline float activate(float y, Activation activation) {
  if (activation == Activation::none) return y;
  return activation == Activation::relu ? maximum(y, 0.0f) : gelu(y);
}

// The level of a code of width 8.
static inline uint8_t quantize_level(float z, CodeType code) {
  const float low = static_cast<float>(code.low);
  const float value = round_to_even(minimum(maximum(z, low), static_cast<float>(code.high)));
  return static_cast<uint8_t>(static_cast<int32_t>(value - low));
}

// The bit of a code of width 1.
static inline bool quantize_bit(float z, CodeType code) { return z > 0.5f * static_cast<float>(code.low + code.high); }

// Eight bytes of 0 or 1 to one byte, the first to the least significant bit. The product moves byte i to bit 56 + i,
// and no two of its terms meet. Little-endian, as every target is.
static inline uint8_t pack_eight_bits(const uint8_t* bits) {
  uint64_t word;
  memcpy(&word, bits, sizeof(word));
  return static_cast<uint8_t>((word * 0x0102040810204080u) >> 56);
}

// One row of floats to one row of codes, padding included.
static inline void quantize_row(const float* y, int64_t channels, const Quantizer& quantizer, uint8_t* codes) {
  const float* shift = quantizer.shift;
  const float* inverse_step = quantizer.inverse_step;
  if (quantizer.code.width == 8) {
    for (int64_t c = 0; c < channels; ++c) {
      codes[c] = quantize_level((y[c] + shift[c]) * inverse_step[c], quantizer.code);
    }
    return;
  }
  for (int64_t begin = 0; begin < channels; begin += 64) {
    const int64_t count = channels - begin < 64 ? channels - begin : 64;
    uint8_t bits[64] = {};
    for (int64_t c = 0; c < count; ++c) {
      bits[c] = quantize_bit((y[begin + c] + shift[begin + c]) * inverse_step[begin + c], quantizer.code);
    }
    for (int64_t byte = 0; byte < 8; ++byte) codes[begin / 8 + byte] = pack_eight_bits(bits + 8 * byte);
  }
}

}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_ARITHMETIC_H_

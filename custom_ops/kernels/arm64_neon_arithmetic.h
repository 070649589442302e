// SPDX-License-Identifier: Apache-2.0
// arithmetic.h, four floats at a time: the same operations in the same order, and so the same bits. Compile with
// -ffp-contract=off. Included by the arm64_neon.cc and arm64_dotprod.cc files only.
#ifndef BEBERT_EDGE_KERNELS_ARM64_NEON_ARITHMETIC_H_
#define BEBERT_EDGE_KERNELS_ARM64_NEON_ARITHMETIC_H_

#include <stdint.h>
#include <string.h>

#include "activation.h"
#include "arm64_neon_intrinsics.h"
#include "codes.h"

namespace bebert {
namespace {

// Sixteen floats, the channels that are worked on together.
struct Floats {
  float32x4_t v[4];
};

// Calls body(channel, count) for all channels, 16 at a time; the body is inlined for 16 and for what is left.
template <class Body>
inline void for_each_sixteen(int64_t channels, Body body) {
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) body(c, int64_t{16});
  if (c < channels) body(c, channels - c);
}

inline Floats load_sixteen(const float* x) {
  return {{vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)}};
}

// The first `count` of 16 floats; zero after them.
inline Floats load_floats(const float* x, int64_t count) {
  if (count >= 16) return load_sixteen(x);
  float first[16] = {};
  memcpy(first, x, static_cast<size_t>(count) * sizeof(float));
  return load_sixteen(first);
}

inline void store_sixteen(float* y, const Floats& x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(y + 4 * i, x.v[i]);
}

inline void store_floats(float* y, int64_t count, const Floats& x) {
  if (count >= 16) return store_sixteen(y, x);
  float all[16];
  store_sixteen(all, x);
  memcpy(y, all, static_cast<size_t>(count) * sizeof(float));
}

// The first `count` of 16 bytes; zero after them.
inline uint8x16_t load_bytes(const uint8_t* bytes, int64_t count) {
  if (count >= 16) return vld1q_u8(bytes);
  uint8_t first[16] = {};
  memcpy(first, bytes, static_cast<size_t>(count));
  return vld1q_u8(first);
}

inline void store_bytes(uint8_t* bytes, int64_t count, uint8x16_t x) {
  if (count >= 16) {
    vst1q_u8(bytes, x);
    return;
  }
  uint8_t all[16];
  vst1q_u8(all, x);
  memcpy(bytes, all, static_cast<size_t>(count));
}

inline uint8x16_t vector_of(const uint8_t (&bytes)[16]) { return vld1q_u8(bytes); }

// Bytes of all ones in the first `count` of 16 lanes.
inline uint8x16_t first_lanes(int64_t count) {
  constexpr uint8_t kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return vcltq_u8(vector_of(kLane), vdupq_n_u8(static_cast<uint8_t>(count < 16 ? count : 16)));
}

// Of each of 16 words that are all ones or zero: its lowest byte.
inline uint8x16_t narrow(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d) {
  const uint16x8_t ab = vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
  const uint16x8_t cd = vuzp1q_u16(vreinterpretq_u16_u32(c), vreinterpretq_u16_u32(d));
  return vuzp1q_u8(vreinterpretq_u8_u16(ab), vreinterpretq_u8_u16(cd));
}

// The bit of each lane within its byte of packed bits.
inline uint8x16_t lane_bits() {
  constexpr uint8_t kBit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  return vector_of(kBit);
}

// Bytes that are all ones or zero to bits.
inline uint16_t pack_bits(uint8x16_t mask) {
  uint8x16_t bits = vandq_u8(mask, lane_bits());
  bits = vpaddq_u8(bits, bits);
  bits = vpaddq_u8(bits, bits);
  bits = vpaddq_u8(bits, bits);
  return vgetq_lane_u16(vreinterpretq_u16_u8(bits), 0);
}

inline uint64_t pack_bits(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) {
  const uint8x16_t bit = lane_bits();
  const uint8x16_t ab = vpaddq_u8(vandq_u8(a, bit), vandq_u8(b, bit));
  const uint8x16_t cd = vpaddq_u8(vandq_u8(c, bit), vandq_u8(d, bit));
  const uint8x16_t bits = vpaddq_u8(ab, cd);
  return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(bits, bits)), 0);
}

// A product rounded, then a sum rounded.
inline float32x4_t multiply_add(float32x4_t a, float32x4_t b, float c) {
  return vaddq_f32(vmulq_f32(a, b), vdupq_n_f32(c));
}

// Quantization of z.
struct CodeRange {
  float32x4_t middle;
  int16x8_t low;
  uint8x16_t most;

  explicit CodeRange(CodeType code)
      : middle(vdupq_n_f32(0.5f * static_cast<float>(code.low + code.high))),
        low(vdupq_n_s16(static_cast<int16_t>(code.low))),
        most(vdupq_n_u8(static_cast<uint8_t>(code.high - code.low))) {}

  // Rounded first and clamped then, by saturation: the same, as the ends are integers.
  uint8x16_t levels(const Floats& z) const {
    int16x8_t half[2];
    for (int i = 0; i < 2; ++i) {
      const int16x4_t value = vqmovn_s32(vcvtnq_s32_f32(z.v[2 * i]));
      half[i] = vqsubq_s16(vqmovn_high_s32(value, vcvtnq_s32_f32(z.v[2 * i + 1])), low);
    }
    return vminq_u8(vqmovun_high_s16(vqmovun_s16(half[0]), half[1]), most);
  }

  // Bytes of all ones where the bit is 1.
  uint8x16_t bits(const Floats& z) const {
    return narrow(vcgtq_f32(z.v[0], middle), vcgtq_f32(z.v[1], middle), vcgtq_f32(z.v[2], middle),
                  vcgtq_f32(z.v[3], middle));
  }
};

// (y + shift) * inverse_step
inline Floats scaled(const Floats& y, const Floats& shift, const Floats& inverse_step) {
  Floats z;
  for (int i = 0; i < 4; ++i) z.v[i] = vmulq_f32(vaddq_f32(y.v[i], shift.v[i]), inverse_step.v[i]);
  return z;
}

// Quantizes the 16 channels from `channel` on, of which `count` exist, into a row of codes. Bits of the padding are
// written where the word of the last channel ends within these 16.
inline void quantize_lanes(const Floats& y, const Quantizer& quantizer, const CodeRange& range, int64_t channel,
                           int64_t count, uint8_t* codes) {
  const Floats z =
      scaled(y, load_floats(quantizer.shift + channel, count), load_floats(quantizer.inverse_step + channel, count));
  if (quantizer.code.width == 8) {
    store_bytes(codes + channel, count, range.levels(z));
    return;
  }
  uint8x16_t mask = range.bits(z);
  if (count < 16) mask = vandq_u8(mask, first_lanes(count));
  const uint16_t bits = pack_bits(mask);
  memcpy(codes + channel / 8, &bits, sizeof(bits));
}

// The padding of a row of codes beyond the last 16 channels that quantize_lanes wrote.
inline void clear_padding(CodeType code, int64_t channels, uint8_t* codes) {
  if (code.width != 1) return;
  for (int64_t channel = (channels + 15) / 16 * 16; channel < packed_row_bytes(channels) * 8; channel += 16) {
    memset(codes + channel / 8, 0, 2);
  }
}

// 2^23 * 1.5: a float of magnitude up to 2^22 added to it is rounded to an integer, which is the lowest bits of the
// sum.
constexpr float kRounding = 12582912.0f;
constexpr int32_t kRoundingBits = 0x4b400000;

// round(32768 * exp(t)) for t <= 0, added to kRounding: "fixed_exp" of docs/ops.md.
inline float32x4_t fixed_exp_and_rounding(float32x4_t t) {
  const float32x4_t u = vmaxq_f32(vmulq_f32(t, vdupq_n_f32(1.4426950408889634f)), vdupq_n_f32(-18.0f));
  const float32x4_t rounded = vaddq_f32(u, vdupq_n_f32(kRounding));
  const float32x4_t f = vsubq_f32(u, vsubq_f32(rounded, vdupq_n_f32(kRounding)));
  float32x4_t m = multiply_add(vdupq_n_f32(0.001326472731307149f), f, 0.009671512991189957f);
  m = multiply_add(m, f, 0.05550733581185341f);
  m = multiply_add(m, f, 0.24022242426872253f);
  m = multiply_add(m, f, 0.6931470036506653f);
  m = multiply_add(m, f, 1.0f);
  // m * 2^(15 + n) by adding to the exponent: m is near 1 and n >= -18, so the product is a normal number. The shift
  // leaves n and drops the other bits of kRounding.
  const uint32x4_t power = vshlq_n_u32(vreinterpretq_u32_f32(rounded), 23);
  const uint32x4_t bits = vaddq_u32(vreinterpretq_u32_f32(m), vaddq_u32(power, vdupq_n_u32(15u << 23)));
  return vaddq_f32(vreinterpretq_f32_u32(bits), vdupq_n_f32(kRounding));
}

// x * Phi(x): "GELU" of docs/ops.md.
inline float32x4_t gelu(float32x4_t x) {
  const float32x4_t saturation = vdupq_n_f32(5.5547f), negative_saturation = vdupq_n_f32(-5.5547f);
  const float32x4_t xc = vminq_f32(vmaxq_f32(x, negative_saturation), saturation);
  const float32x4_t s = vmulq_f32(xc, xc);
  float32x4_t p = multiply_add(vdupq_n_f32(2.193209169831789e-08f), s, 6.560832844115794e-06f);
  p = multiply_add(p, s, 0.00018675551109481603f);
  p = multiply_add(p, s, 0.004784971475601196f);
  p = multiply_add(p, s, 0.035520654171705246f);
  p = multiply_add(p, s, 0.39894193410873413f);
  float32x4_t q = multiply_add(vdupq_n_f32(1.1893866940226872e-06f), s, 7.988296420080587e-05f);
  q = multiply_add(q, s, 0.0019842907786369324f);
  q = multiply_add(q, s, 0.029615813866257668f);
  q = multiply_add(q, s, 0.2557002305984497f);
  q = multiply_add(q, s, 1.0f);
  const float32x4_t ratio = vdivq_f32(vmulq_f32(xc, p), q);
  const float32x4_t phi = vminq_f32(
      vmaxq_f32(vaddq_f32(vdupq_n_f32(0.5f), ratio), vdupq_n_f32(1.490116119384765625e-08f)), vdupq_n_f32(1.0f));
  const uint32x4_t above = vcgtq_f32(x, negative_saturation);
  return vreinterpretq_f32_u32(vandq_u32(above, vreinterpretq_u32_f32(vmulq_f32(x, phi))));
}

template <Activation kActivation>
inline float32x4_t activate(float32x4_t y) {
  if (kActivation == Activation::relu) return vmaxq_f32(y, vdupq_n_f32(0));
  if (kActivation == Activation::gelu) return gelu(y);
  return y;
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_ARM64_NEON_ARITHMETIC_H_

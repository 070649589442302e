// SPDX-License-Identifier: Apache-2.0
// arithmetic.h, sixteen floats at a time: the same operations in the same order, and so the same bits. Compile with
// -ffp-contract=off. Included by the x86_avx512.cc files only.
#ifndef BEBERT_EDGE_KERNELS_X86_AVX512_ARITHMETIC_H_
#define BEBERT_EDGE_KERNELS_X86_AVX512_ARITHMETIC_H_

#include <stdint.h>
#include <string.h>

#include "activation.h"
#include "codes.h"
#include "x86_avx512_intrinsics.h"

namespace bebert {
namespace {

inline __mmask16 first_lanes(int64_t count) {
  return count >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << count) - 1);
}

inline void store_mask(uint8_t* bytes, __mmask16 mask) {
  const uint16_t bits = mask;
  memcpy(bytes, &bits, sizeof(bits));
}

// Masked stores are slow on Zen 4, and rarely needed.
inline void store_floats(float* y, __mmask16 lanes, __m512 v) {
  if (lanes == 0xffff) {
    _mm512_storeu_ps(y, v);
  } else {
    _mm512_mask_storeu_ps(y, lanes, v);
  }
}

inline void store_bytes(uint8_t* bytes, __mmask16 lanes, __m512i v) {
  const __m128i narrow = _mm512_cvtepi32_epi8(v);
  if (lanes == 0xffff) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), narrow);
  } else {
    _mm_mask_storeu_epi8(bytes, lanes, narrow);
  }
}

// A product rounded, then a sum rounded.
inline __m512 multiply_add(__m512 a, __m512 b, float c) {
  return _mm512_add_ps(_mm512_mul_ps(a, b), _mm512_set1_ps(c));
}

// Quantization of z.
struct CodeRange {
  __m512 low, high, middle;
  __m512i low_value;

  explicit CodeRange(CodeType code)
      : low(_mm512_set1_ps(static_cast<float>(code.low))),
        high(_mm512_set1_ps(static_cast<float>(code.high))),
        middle(_mm512_set1_ps(0.5f * static_cast<float>(code.low + code.high))),
        low_value(_mm512_set1_epi32(code.low)) {}

  __m512i levels(__m512 z) const {
    return _mm512_sub_epi32(_mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(z, low), high)), low_value);
  }
  __mmask16 bits(__mmask16 lanes, __m512 z) const { return _mm512_mask_cmp_ps_mask(lanes, z, middle, _CMP_GT_OQ); }
};

// round(32768 * exp(t)) for t <= 0: "fixed_exp" of docs/ops.md, as integers.
inline __m512i fixed_exp(__m512 t) {
  const __m512 u = _mm512_max_ps(_mm512_mul_ps(t, _mm512_set1_ps(1.4426950408889634f)), _mm512_set1_ps(-18.0f));
  const __m512 n = _mm512_roundscale_ps(u, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(u, n);
  __m512 m = multiply_add(_mm512_set1_ps(0.001326472731307149f), f, 0.009671512991189957f);
  m = multiply_add(m, f, 0.05550733581185341f);
  m = multiply_add(m, f, 0.24022242426872253f);
  m = multiply_add(m, f, 0.6931470036506653f);
  m = multiply_add(m, f, 1.0f);
  // The product with a power of two is exact, as vscalefps is.
  return _mm512_cvtps_epi32(_mm512_scalef_ps(m, _mm512_add_ps(n, _mm512_set1_ps(15.0f))));
}

// x * Phi(x): "GELU" of docs/ops.md.
inline __m512 gelu(__m512 x) {
  const __m512 saturation = _mm512_set1_ps(5.5547f), negative_saturation = _mm512_set1_ps(-5.5547f);
  const __m512 xc = _mm512_min_ps(_mm512_max_ps(x, negative_saturation), saturation);
  const __m512 s = _mm512_mul_ps(xc, xc);
  __m512 p = multiply_add(_mm512_set1_ps(2.193209169831789e-08f), s, 6.560832844115794e-06f);
  p = multiply_add(p, s, 0.00018675551109481603f);
  p = multiply_add(p, s, 0.004784971475601196f);
  p = multiply_add(p, s, 0.035520654171705246f);
  p = multiply_add(p, s, 0.39894193410873413f);
  __m512 q = multiply_add(_mm512_set1_ps(1.1893866940226872e-06f), s, 7.988296420080587e-05f);
  q = multiply_add(q, s, 0.0019842907786369324f);
  q = multiply_add(q, s, 0.029615813866257668f);
  q = multiply_add(q, s, 0.2557002305984497f);
  q = multiply_add(q, s, 1.0f);
  const __m512 ratio = _mm512_div_ps(_mm512_mul_ps(xc, p), q);
  const __m512 phi = _mm512_min_ps(
      _mm512_max_ps(_mm512_add_ps(_mm512_set1_ps(0.5f), ratio), _mm512_set1_ps(1.490116119384765625e-08f)),
      _mm512_set1_ps(1.0f));
  const __mmask16 above = _mm512_cmp_ps_mask(x, negative_saturation, _CMP_GT_OQ);
  return _mm512_maskz_mul_ps(above, x, phi);
}

template <Activation kActivation>
inline __m512 activate(__m512 y) {
  if (kActivation == Activation::relu) return _mm512_max_ps(y, _mm512_setzero_ps());
  if (kActivation == Activation::gelu) return gelu(y);
  return y;
}

// gelu(x) in a third of the time, but for an error of at most kError + kRelativeError * |x|: x / 2 + a * (Phi(a) - 1/2)
// with a = |x|, the second part by one of 16 cubic polynomials for a around i / 2.8, the last of which is a / 2. Each
// was fitted to the Chebyshev nodes of its interval. The bound holds for every float up to 1e30 in magnitude (all of
// them were tried).
struct GeluEstimate {
  __m512 y, magnitude;

  explicit GeluEstimate(__m512 x) : magnitude(_mm512_abs_ps(x)) {
    // The sum with 1.5 * 2^23 leaves the index in the lowest bits, where vpermps reads it. Positive floats are in the
    // order of their bits, and integers have a minimum on every pipe.
    constexpr float kShift = 12582912.0f;
    const __m512 shifted = _mm512_fmadd_ps(magnitude, _mm512_set1_ps(2.8f), _mm512_set1_ps(kShift));
    const __m512i last = _mm512_castps_si512(_mm512_set1_ps(kShift + 15.0f));
    const __m512i index = _mm512_min_epi32(_mm512_castps_si512(shifted), last);
    const auto coefficient = [index](const float (&c)[16]) { return _mm512_permutexvar_ps(index, _mm512_loadu_ps(c)); };
    __m512 h = _mm512_fmadd_ps(coefficient(kCubic), magnitude, coefficient(kSquare));
    h = _mm512_fmadd_ps(h, magnitude, coefficient(kLinear));
    h = _mm512_fmadd_ps(h, magnitude, coefficient(kConstant));
    y = _mm512_fmadd_ps(x, _mm512_set1_ps(0.5f), h);
  }

  static constexpr float kError = 1e-5f, kRelativeError = 3e-7f;

 private:
  static constexpr float kConstant[16] = {5.1956425e-7f, 6.628897e-4f,  0.006093174f,   -0.007033696f,
                                          -0.10146979f,  -0.29578862f,  -0.5019923f,    -0.59634256f,
                                          -0.5359522f,   -0.3801484f,   -0.21844587f,   -0.10349351f,
                                          -0.04093066f,  -0.013637004f, -0.0038542433f, 0.0f};
  static constexpr float kLinear[16] = {
      -9.3260234e-5f, -0.00875161f, -0.04042278f, -3.9418458e-4f, 0.22313248f, 0.58615303f, 0.9038844f, 1.0286827f,
      0.9624985f,     0.8086459f,   0.6652065f,   0.572781f,      0.52680427f, 0.5083386f,  0.5022074f, 0.5f};
  static constexpr float kSquare[16] = {0.40156007f,    0.44052762f,   0.50318676f,   0.4626852f,
                                        0.28578115f,    0.059261955f,  -0.10414525f,  -0.15919833f,
                                        -0.13501668f,   -0.084346466f, -0.04191434f,  -0.017134398f,
                                        -0.0058685183f, -0.001703158f, -4.220385e-4f, 0.0f};
  static constexpr float kCubic[16] = {-0.02355226f,  -0.08554189f,   -0.12749887f,  -0.1139122f,
                                       -0.06709539f,  -0.019885695f,  0.008163193f,  0.016262474f,
                                       0.013316919f,  0.0077511873f,  0.003565241f,  0.0013498914f,
                                       4.2945283e-4f, 1.16183066e-4f, 2.6935386e-5f, 0.0f};
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_X86_AVX512_ARITHMETIC_H_

// SPDX-License-Identifier: Apache-2.0
// arithmetic.h, eight floats at a time: the same operations in the same order, and so the same bits. Compile with
// -ffp-contract=off and without FMA. Included by the x86_avx2 files only.
#ifndef BEBERT_EDGE_KERNELS_X86_AVX2_ARITHMETIC_H_
#define BEBERT_EDGE_KERNELS_X86_AVX2_ARITHMETIC_H_

#include <stdint.h>
#include <string.h>

#include "activation.h"
#include "codes.h"
#include "x86_avx2_vectors.h"

namespace bebert {
namespace {

// The first `count` of eight lanes, or all.
class Lanes {
 public:
  explicit Lanes(int64_t count) : count_(count < 8 ? count : 8) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    mask_ = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count_)), lane);
  }
  int64_t count() const { return count_; }
  bool all() const { return count_ == 8; }
  uint32_t bits() const { return (1u << count_) - 1; }
  __m256i mask() const { return mask_; }

 private:
  int64_t count_;
  __m256i mask_;
};

inline __m256 load_floats(const float* x, const Lanes& lanes) {
  return lanes.all() ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes.mask());
}

inline void store_floats(float* y, const Lanes& lanes, __m256 v) {
  if (lanes.all()) {
    _mm256_storeu_ps(y, v);
  } else {
    _mm256_maskstore_ps(y, lanes.mask(), v);
  }
}

// A product rounded, then a sum rounded.
inline __m256 multiply_add(__m256 a, __m256 b, float c) {
  return _mm256_add_ps(_mm256_mul_ps(a, b), _mm256_set1_ps(c));
}

// Quantization of z.
struct CodeRange {
  __m256 low, high, middle;
  __m256i low_value;

  explicit CodeRange(CodeType code)
      : low(_mm256_set1_ps(static_cast<float>(code.low))),
        high(_mm256_set1_ps(static_cast<float>(code.high))),
        middle(_mm256_set1_ps(0.5f * static_cast<float>(code.low + code.high))),
        low_value(_mm256_set1_epi32(code.low)) {}

  __m256i levels(__m256 z) const {
    return _mm256_sub_epi32(_mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(z, low), high)), low_value);
  }
  uint32_t bits(__m256 z) const {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(z, middle, _CMP_GT_OQ)));
  }
};

// round(32768 * exp(t)) for t <= 0: "fixed_exp" of docs/ops.md, as integers. Four vectors at a time, step by step: one
// alone would wait for each operation.
inline void fixed_exp(const __m256 (&t)[4], __m256i (&e)[4]) {
  const __m256 shift = _mm256_set1_ps(12582912.0f);  // 1.5 * 2^23: the sum's lowest bits are the nearest integer
  __m256 shifted[4], f[4], m[4];
  BEBERT_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m256 scaled = _mm256_mul_ps(t[i], _mm256_set1_ps(1.4426950408889634f));
    const __m256 u = _mm256_max_ps(scaled, _mm256_set1_ps(-18.0f));
    shifted[i] = _mm256_add_ps(u, shift);
    f[i] = _mm256_sub_ps(u, _mm256_sub_ps(shifted[i], shift));
    m[i] = _mm256_set1_ps(0.001326472731307149f);
  }
  constexpr float kCoefficients[] = {0.009671512991189957f, 0.05550733581185341f, 0.24022242426872253f,
                                     0.6931470036506653f, 1.0f};
  BEBERT_UNROLL
  for (int c = 0; c < 5; ++c) {
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) m[i] = multiply_add(m[i], f[i], kCoefficients[c]);
  }
  // The product with 2^(15 + n), -18 <= n <= 0, is exact: an addition to the exponent of m, which is near 1.
  BEBERT_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m256i n = _mm256_add_epi32(_mm256_castps_si256(shifted[i]), _mm256_set1_epi32(15));
    const __m256i product = _mm256_add_epi32(_mm256_castps_si256(m[i]), _mm256_slli_epi32(n, 23));
    e[i] = _mm256_cvtps_epi32(_mm256_castsi256_ps(product));
  }
}

// Horner's scheme for four vectors, from the highest coefficient down.
inline void polynomial(const float (&coefficients)[6], const __m256 (&s)[4], __m256 (&p)[4]) {
  BEBERT_UNROLL
  for (int i = 0; i < 4; ++i) p[i] = _mm256_set1_ps(coefficients[0]);
  BEBERT_UNROLL
  for (int c = 1; c < 6; ++c) {
    BEBERT_UNROLL
    for (int i = 0; i < 4; ++i) p[i] = multiply_add(p[i], s[i], coefficients[c]);
  }
}

// x * Phi(x): "GELU" of docs/ops.md; four vectors at a time, as above.
inline void gelu(__m256 (&x)[4]) {
  constexpr float kP[6] = {2.193209169831789e-08f, 6.560832844115794e-06f, 0.00018675551109481603f,
                           0.004784971475601196f,  0.035520654171705246f,  0.39894193410873413f};
  constexpr float kQ[6] = {1.1893866940226872e-06f, 7.988296420080587e-05f, 0.0019842907786369324f,
                           0.029615813866257668f,   0.2557002305984497f,    1.0f};
  const __m256 saturation = _mm256_set1_ps(5.5547f), negative_saturation = _mm256_set1_ps(-5.5547f);
  __m256 clamped[4], s[4], p[4], q[4];
  BEBERT_UNROLL
  for (int i = 0; i < 4; ++i) {
    clamped[i] = _mm256_min_ps(_mm256_max_ps(x[i], negative_saturation), saturation);
    s[i] = _mm256_mul_ps(clamped[i], clamped[i]);
  }
  polynomial(kQ, s, q);
  polynomial(kP, s, p);
  BEBERT_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m256 ratio = _mm256_div_ps(_mm256_mul_ps(clamped[i], p[i]), q[i]);
    const __m256 sum = _mm256_add_ps(_mm256_set1_ps(0.5f), ratio);
    const __m256 phi =
        _mm256_min_ps(_mm256_max_ps(sum, _mm256_set1_ps(1.490116119384765625e-08f)), _mm256_set1_ps(1.0f));
    const __m256 above = _mm256_cmp_ps(x[i], negative_saturation, _CMP_GT_OQ);
    x[i] = _mm256_and_ps(above, _mm256_mul_ps(x[i], phi));
  }
}

template <Activation kActivation>
inline void activate(__m256 (&y)[4]) {
  if (kActivation == Activation::gelu) gelu(y);
  if (kActivation != Activation::relu) return;
  BEBERT_UNROLL
  for (int i = 0; i < 4; ++i) y[i] = _mm256_max_ps(y[i], _mm256_setzero_ps());
}

// Four vectors of eight int32 in 0 .. 255 to 32 bytes.
inline __m256i narrow_to_bytes(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_permutevar8x32_epi32(bytes, order);
}

// The sign bits of four vectors of eight int32.
inline uint32_t sign_bits(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_permutevar8x32_epi32(bytes, order)));
}

// Quantizes a row: value(c, lanes) is the vector of the channels from c on, called once for each, in order. Every byte
// of `codes` is written; bits of the padding are zero.
template <class Value>
inline void quantize_row(const Value& value, int64_t channels, const Quantizer& quantizer, uint8_t* codes) {
  const CodeRange range(quantizer.code);
  const bool bits = quantizer.code.width == 1;
  const auto z = [&](int64_t c, const Lanes& lanes) {
    const __m256 shift = load_floats(quantizer.shift + c, lanes);
    const __m256 inverse_step = load_floats(quantizer.inverse_step + c, lanes);
    return _mm256_mul_ps(_mm256_add_ps(value(c, lanes), shift), inverse_step);
  };
  const Lanes all(8);
  int64_t c = 0;
  if (bits) {
    for (; c + 8 <= channels; c += 8) codes[c / 8] = static_cast<uint8_t>(range.bits(z(c, all)));
    if (c < channels) {
      const Lanes lanes(channels - c);
      codes[c / 8] = static_cast<uint8_t>(range.bits(z(c, lanes)) & lanes.bits());
      c += 8;
    }
    for (; c < 8 * packed_row_bytes(channels); c += 8) codes[c / 8] = 0;
    return;
  }
  for (; c + 32 <= channels; c += 32) {
    const __m256i first = range.levels(z(c, all)), second = range.levels(z(c + 8, all));
    const __m256i third = range.levels(z(c + 16, all)), fourth = range.levels(z(c + 24, all));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + c), narrow_to_bytes(first, second, third, fourth));
  }
  for (; c < channels; c += 8) {
    const Lanes lanes(channels - c);
    alignas(32) int32_t levels[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(levels), range.levels(z(c, lanes)));
    for (int64_t i = 0; i < lanes.count(); ++i) codes[c + i] = static_cast<uint8_t>(levels[i]);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_X86_AVX2_ARITHMETIC_H_

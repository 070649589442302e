// SPDX-License-Identifier: Apache-2.0
// From contexts to codes, 16 channels at a time.
#ifndef BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_OUTPUT_H_
#define BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_OUTPUT_H_

#include "arm64_neon_codes.h"

namespace bebert {
namespace {

// Contexts of 16 channels.
struct Contexts {
  int32x4_t v[4];
};

// The codes of the 16 channels from d on.
class OutputChannels {
 public:
  OutputChannels(const AttentionHead& head, const CodeRange& range, int64_t d)
      : range_(range),
        codes_(head.codes),
        row_bytes_(head.codes_row_bytes),
        channel_(head.codes_channel + d),
        count_(smaller(16, head.config.head_size - d)),
        bits_(head.config.output.width == 1),
        lanes_(first_lanes(count_)),
        scale_(head.context_scale),
        shift_(load_floats(head.quantizer.shift + d, count_)),
        inverse_step_(load_floats(head.quantizer.inverse_step + d, count_)) {}

  void store(int64_t query, const Contexts& contexts) const {
    if (bits_) return store_bits(query, bits(contexts));
    store_bytes(codes_ + query * row_bytes_ + channel_, count_, range_.levels(quotient(contexts)));
  }

  // Codes of width 1, as bytes of all ones or zero.
  uint8x16_t bits(const Contexts& contexts) const { return range_.bits(quotient(contexts)); }

  // Whole bytes are written; where others own bits of them, bits are added.
  void store_bits(int64_t query, uint8x16_t mask) const {
    const uint16_t packed = pack_bits(vandq_u8(mask, lanes_));
    uint8_t* to = codes_ + query * row_bytes_ + channel_ / 8;
    if (channel_ % 8 == 0 && count_ == 16) {
      memcpy(to, &packed, sizeof(packed));
      return;
    }
    for (uint32_t rest = static_cast<uint32_t>(packed) << (channel_ % 8); rest; ++to, rest >>= 8) {
      *to = static_cast<uint8_t>(*to | rest);
    }
  }

 private:
  Floats quotient(const Contexts& contexts) const {  // z of docs/ops.md
    Floats y;
    for (int i = 0; i < 4; ++i) y.v[i] = vmulq_n_f32(vcvtq_f32_s32(contexts.v[i]), scale_);
    return scaled(y, shift_, inverse_step_);
  }

  const CodeRange& range_;
  uint8_t* codes_;
  int64_t row_bytes_, channel_, count_;
  bool bits_;
  uint8x16_t lanes_;
  float scale_;
  Floats shift_, inverse_step_;
};

// The bit of an output code of width 1 changes at most once from the least context to the greatest, -keys to keys: each
// rounded step of its arithmetic is monotonic. keys < 2^15.
struct OutputLimits {
  int16x8_t limit[2];  // the bit is `least` up to this context, and then the other
  uint8x16_t least;

  void find(const OutputChannels& output, int64_t keys) {
    const int32x4_t smallest = vdupq_n_s32(static_cast<int32_t>(-keys)), largest = vnegq_s32(smallest);
    Contexts low, high;
    for (int i = 0; i < 4; ++i) {
      low.v[i] = smallest;
      high.v[i] = largest;
    }
    least = output.bits(low);
    const uint8x16_t changes = veorq_u8(output.bits(high), least);
    for (int64_t range = 2 * keys; range > 1; range = (range + 1) / 2) {
      Contexts middle;
      for (int i = 0; i < 4; ++i) middle.v[i] = vhaddq_s32(low.v[i], high.v[i]);
      uint32x4_t other[4];
      widen(veorq_u8(output.bits(middle), least), other);
      for (int i = 0; i < 4; ++i) {
        low.v[i] = vbslq_s32(other[i], low.v[i], middle.v[i]);
        high.v[i] = vbslq_s32(other[i], middle.v[i], high.v[i]);
      }
    }
    uint32x4_t change[4];
    widen(changes, change);
    for (int i = 0; i < 4; ++i) low.v[i] = vbslq_s32(change[i], low.v[i], largest);
    for (int i = 0; i < 2; ++i) limit[i] = vcombine_s16(vmovn_s32(low.v[2 * i]), vmovn_s32(low.v[2 * i + 1]));
  }

  uint8x16_t bits(int16x8_t first, int16x8_t second) const {
    const uint16x8_t above[2] = {vcgtq_s16(first, limit[0]), vcgtq_s16(second, limit[1])};
    return veorq_u8(vuzp1q_u8(vreinterpretq_u8_u16(above[0]), vreinterpretq_u8_u16(above[1])), least);
  }

 private:
  // The reverse of `narrow`.
  static void widen(uint8x16_t mask, uint32x4_t (&words)[4]) {
    const uint16x8_t halves[2] = {vreinterpretq_u16_u8(vzip1q_u8(mask, mask)),
                                  vreinterpretq_u16_u8(vzip2q_u8(mask, mask))};
    for (int i = 0; i < 2; ++i) {
      words[2 * i] = vreinterpretq_u32_u16(vzip1q_u16(halves[i], halves[i]));
      words[2 * i + 1] = vreinterpretq_u32_u16(vzip2q_u16(halves[i], halves[i]));
    }
  }
};

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_BINARY_ATTENTION_ARM64_NEON_OUTPUT_H_

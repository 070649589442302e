// SPDX-License-Identifier: Apache-2.0
// From the exact sums of a tile to floats or codes, 16 channels at a time.
#ifndef BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_EPILOGUE_H_
#define BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_EPILOGUE_H_

#include "arm64_neon_tile.h"

namespace bebert {
namespace {

// sum * scale + bias
inline Floats scaled_sums(const int32_t* sums, const Floats& scale, const Floats& bias) {
  Floats y;
  for (int i = 0; i < 4; ++i) {
    const float32x4_t sum = vcvtq_f32_s32(vld1q_s32(sums + 4 * i));
    y.v[i] = vaddq_f32(vmulq_f32(sum, scale.v[i]), bias.v[i]);
  }
  return y;
}

// Writes 16 channels of all tokens, of which `count` > 0 exist; `channel` and `sums` are at the first of them.
void store_sums(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  const Floats scale = load_floats(task.scale + channel, count), bias = load_floats(task.bias + channel, count);
  float* y = task.y + channel;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, y += task.n) {
    store_floats(y, count, scaled_sums(sums, scale, bias));
  }
}

inline void store_bits(uint8x16_t mask, uint8x16_t lanes, uint8_t* codes) {
  const uint16_t bits = pack_bits(vandq_u8(mask, lanes));
  memcpy(codes, &bits, sizeof(bits));
}

template <Activation kActivation, bool kBits>
void store_codes(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  const int64_t row_bytes = code_row_bytes(task.output, task.n);
  uint8_t* codes = task.codes_out + (kBits ? channel / 8 : channel);
  const Floats scale = load_floats(task.scale + channel, count), bias = load_floats(task.bias + channel, count);
  const Floats shift = load_floats(task.shift + channel, count);
  const Floats inverse_step = load_floats(task.inverse_step + channel, count);
  const CodeRange range(task.output);
  const uint8x16_t lanes = first_lanes(count);
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
    Floats y = scaled_sums(sums, scale, bias);
    for (int i = 0; i < 4; ++i) y.v[i] = activate<kActivation>(y.v[i]);
    const Floats z = scaled(y, shift, inverse_step);
    if (kBits) {
      store_bits(range.bits(z), lanes, codes);
    } else {
      store_bytes(codes, count, range.levels(z));
    }
  }
}

// Bits of 16 channels by the integer sum alone; zero_begin and zero_length of a task, at the first of them.
struct SumBits {
  int32x4_t begin[4];
  uint32x4_t length[4];

  SumBits(const int32_t* zero_begin, const uint32_t* zero_length, int64_t count) {
    int32_t begins[16] = {};
    uint32_t lengths[16] = {};
    const size_t bytes = static_cast<size_t>(count < 16 ? count : 16) * sizeof(int32_t);
    memcpy(begins, zero_begin, bytes);
    memcpy(lengths, zero_length, bytes);
    for (int i = 0; i < 4; ++i) {
      begin[i] = vld1q_s32(begins + 4 * i);
      length[i] = vld1q_u32(lengths + 4 * i);
    }
  }

  // Bytes of all ones where the bit is 1.
  uint8x16_t of(const int32_t* sums) const {
    uint32x4_t ones[4];
    for (int i = 0; i < 4; ++i) {
      const int32x4_t distance = vsubq_s32(vld1q_s32(sums + 4 * i), begin[i]);
      ones[i] = vcgtq_u32(vreinterpretq_u32_s32(distance), length[i]);
    }
    return narrow(ones[0], ones[1], ones[2], ones[3]);
  }
};

void store_bits_by_sum(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  const int64_t row_bytes = packed_row_bytes(task.n);
  uint8_t* codes = task.codes_out + channel / 8;
  const SumBits bits(task.zero_begin + channel, task.zero_length + channel, count);
  const uint8x16_t lanes = first_lanes(count);
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += row_bytes) {
    store_bits(bits.of(sums), lanes, codes);
  }
}

// Ternary codes in the same way.
void store_signs_by_sum(const PackedBinaryMatMulTask& task, int64_t channel, int64_t count, const int32_t* sums) {
  const int32_t* begin = task.zero_begin + channel;
  const uint32_t* length = task.zero_length + channel;
  const SumBits positive(begin, length, count), negative(begin + task.zero_set, length + task.zero_set, count);
  uint8_t* codes = task.codes_out + channel;
  for (int64_t t = 0; t < task.tokens; ++t, sums += kChannelBlock, codes += task.n) {
    store_bytes(codes, count, vaddq_u8(vsubq_u8(vdupq_n_u8(1), positive.of(sums)), negative.of(sums)));
  }
}

using Epilogue = void (*)(const PackedBinaryMatMulTask&, int64_t channel, int64_t count, const int32_t* sums);

inline Epilogue choose_epilogue(const PackedBinaryMatMulTask& task) {
  if (task.y) return store_sums;
  const bool bits = task.output.width == 1;
  if (task.zero_begin) return bits ? store_bits_by_sum : store_signs_by_sum;
  switch (task.activation) {
    case Activation::relu:
      return bits ? store_codes<Activation::relu, true> : store_codes<Activation::relu, false>;
    case Activation::gelu:
      return bits ? store_codes<Activation::gelu, true> : store_codes<Activation::gelu, false>;
    case Activation::none:
      break;
  }
  return bits ? store_codes<Activation::none, true> : store_codes<Activation::none, false>;
}

void store_block(const PackedBinaryMatMulTask& task, int64_t channel, const int32_t* sums) {
  const Epilogue epilogue = choose_epilogue(task);
  int64_t c = 0;
  for (; c < kChannelBlock && channel + c < task.n; c += 16)
    epilogue(task, channel + c, task.n - channel - c, sums + c);
  if (task.y || task.output.width != 1) return;
  const size_t padding = static_cast<size_t>(kChannelBlock - c) / 8;
  for (int64_t t = 0; t < task.tokens; ++t) {
    memset(task.codes_out + t * packed_row_bytes(task.n) + (channel + c) / 8, 0, padding);
  }
}

// The sums of each block of channels, then their epilogue.
inline void multiply_blocks(const PackedBinaryMatMulTask& task,
                            void (*product)(const PackedBinaryMatMulTask&, int64_t channel, Sums sums)) {
  alignas(64) int32_t sums[kTokenBlock][kChannelBlock];
  for (int64_t channel = task.channel_begin; channel < task.channel_end; channel += kChannelBlock) {
    product(task, channel, sums);
    store_block(task, channel, sums[0]);
  }
}

}  // namespace
}  // namespace bebert

#endif  // BEBERT_EDGE_KERNELS_PACKED_BINARY_MATMUL_ARM64_NEON_EPILOGUE_H_

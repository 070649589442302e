// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VPOPCNTDQ, VBMI and VNNI: tiles of up to 8 tokens by 32 output channels, summed in registers.
#include "x86_avx512_epilogue.h"
#include "x86_avx512_lut.h"
#include "x86_avx512_xnor.h"

namespace bebert {

namespace {

size_t interleaved_bytes(int64_t n, int64_t k) { return static_cast<size_t>(padded_channels(n) * packed_row_bytes(k)); }

void interleave(const uint8_t* rows, int64_t n, int64_t k, CodeType input, uint8_t* out) {
  if (input.width == 1) {
    interleave_words(rows, n, k, out);
  } else {
    interleave_nibbles(rows, n, k, out);
  }
}

size_t table_bytes(int64_t k, CodeType input) {
  return input.width == 1 ? 0 : static_cast<size_t>(passes(input) * packed_row_bytes(k) / 8 * kTableWordBytes);
}

void build_tables(const uint8_t* codes, int64_t tokens, int64_t k, CodeType input, void* tables) {
  build_nibble_tables(codes, tokens, k, input, static_cast<uint8_t*>(tables));
}

struct Product {
  const PackedBinaryMatMulTask& task;
  Epilogue epilogue;

  // The tile of kTokens tokens from `token` and of 32 channels from `channel` on.
  template <int kTokens>
  void tile(int64_t token, int64_t channel) const {
    alignas(64) int32_t sums[kTokens][kTileChannels];
    const int64_t row_bytes = packed_row_bytes(task.k);
    const uint8_t* weights = task.weights + channel * row_bytes;
    if (task.input.width == 8) {
      const int64_t token_bytes = static_cast<int64_t>(table_bytes(task.k, task.input));
      const uint8_t* tables = static_cast<const uint8_t*>(task.tables) + token * token_bytes;
      lut_tile<kTokens>(tables, token_bytes, weights, row_bytes / 8, passes(task.input), sums);
    } else if (task.input.low < 0) {
      xnor_tile<kTokens, true>(task.codes + token * row_bytes, row_bytes, weights, task.k, sums);
    } else {
      xnor_tile<kTokens, false>(task.codes + token * row_bytes, row_bytes, weights, task.k, sums);
    }
    for (int64_t c = 0; c < kTileChannels; c += 16) epilogue(task, token, kTokens, channel + c, sums[0] + c);
  }
};

// Bit-packed codes use 16 accumulators for four tokens already.
void multiply(const PackedBinaryMatMulTask& task) {
  const Product product = {task, choose_epilogue(task)};
  const bool tables = task.input.width == 8;
  const int64_t channel_end = task.channel_begin + padded_channels(task.channel_end - task.channel_begin);
  for (int64_t channel = task.channel_begin; channel < channel_end; channel += kTileChannels) {
    int64_t token = 0;
    for (; tables && token + 8 <= task.tokens; token += 8) product.tile<8>(token, channel);
    for (; token + 4 <= task.tokens; token += 4) product.tile<4>(token, channel);
    for (; token + 2 <= task.tokens; token += 2) product.tile<2>(token, channel);
    for (; token < task.tokens; ++token) product.tile<1>(token, channel);
  }
}

}  // namespace

const PackedBinaryMatMulKernel packed_binary_matmul_x86_avx512 = {interleaved_bytes, interleave, table_bytes,
                                                                  build_tables, multiply};

}  // namespace bebert

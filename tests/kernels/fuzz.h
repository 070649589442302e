// SPDX-License-Identifier: Apache-2.0
// What the fuzz program is made of, and the distributions it draws from.
#ifndef BEBERT_EDGE_TESTS_KERNELS_FUZZ_H_
#define BEBERT_EDGE_TESTS_KERNELS_FUZZ_H_

#include "support.h"
#include "test_host.h"

namespace bebert {

// One case: everything about it follows from its number.
struct Fuzz {
  uint64_t number;
  const std::vector<Isa>& paths;
  Random random{number};
  // Of the case: how hosts run tasks, and what memory holds that a path under test finds.
  bool threads = random.one_in(4);
  uint8_t initial = random.pick({uint8_t{0x00}, uint8_t{0x5a}, uint8_t{0xff}});
  // After this many allocations memory runs out at a first attempt.
  int64_t allocations = random.one_in(16) ? random.below(4) : INT64_MAX;

  // To be called before `isa` runs, so that a crash is told of with the way to reproduce it.
  void announce(Isa isa) const {
    std::snprintf(reproduction, sizeof(reproduction), "reproduce with: fuzz --case %llu%s%s\n",
                  static_cast<unsigned long long>(number), isa == Isa::scalar ? "" : " --path ",
                  isa == Isa::scalar ? "" : name(isa));
  }
  // Calls `call`, which runs a path on this host, after a failed attempt where memory runs out.
  template <class Call>
  void run(TestHost& host, const Call& call) const {
    host.threads = threads;
    host.initial = initial;
    if (allocations < INT64_MAX) {
      host.left = allocations;
      call();
      host.left = INT64_MAX;
    }
    call();
  }
};

void fuzz_packed_binary_matmul(Fuzz& fuzz);
void fuzz_binary_attention(Fuzz& fuzz);
void fuzz_add_layer_norm_quantize(Fuzz& fuzz);
void fuzz_quantize(Fuzz& fuzz);
void fuzz_packed_binary_embedding(Fuzz& fuzz);

// 1 .. most: half of the time beside a multiple of a word or vector, else any, the smaller the likelier.
int64_t draw_size(Random& random, int64_t most);

// Halves the largest of `sizes` until their product is at most `most`.
void limit_product(int64_t most, std::vector<int64_t*> sizes);

// Some valid codes in place of others: all alike, rows alike, or few that are not the lowest.
void vary_codes(Random& random, CodeType code, int64_t rows, int64_t channels, uint8_t* codes);

// Other numbers in place of some: zeros of both signs, tiny and huge, negative, all alike. Huge means 1e30: what the
// ops make of it stays finite, so that z is never NaN.
void vary_floats(Random& random, const Array<float>& floats);
void vary_positive_floats(Random& random, const Array<float>& floats);

// Quantization that meets ties between codes often, for y that are integer multiples of `unit`, a power of two, of the
// order of `spread`.
void tie_exactly(Random& random, CodeType code, float unit, float spread, const Array<float>& shift,
                 const Array<float>& inverse_step);

// Shifts that put some z of each channel at a tie or a few units in the last place beside it. y: [members, tokens,
// channels], shift and inverse_step: [members, channels].
void tie_nearly(Random& random, CodeType code, int64_t channels, const Array<float>& y, const Array<float>& shift,
                const Array<float>& inverse_step);

}  // namespace bebert

#endif  // BEBERT_EDGE_TESTS_KERNELS_FUZZ_H_

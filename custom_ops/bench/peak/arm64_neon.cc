// SPDX-License-Identifier: Apache-2.0
#include "arm64_neon.h"

#include "peak.h"

namespace bebert {

int64_t peak_bits_arm64_neon(int64_t rounds) { return peak_bits(rounds); }

int64_t peak_tables_arm64_neon(int64_t rounds) { return peak_tables(rounds); }

}  // namespace bebert

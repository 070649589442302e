// SPDX-License-Identifier: Apache-2.0
#include "../arithmetic.h"
#include "quantize.h"

namespace bebert {

void quantize_scalar(const QuantizeRows& rows) {
  const int64_t row_bytes = code_row_bytes(rows.quantizer.code, rows.channels);
  for (int64_t t = 0; t < rows.tokens; ++t) {
    quantize_row(rows.x + t * rows.channels, rows.channels, rows.quantizer, rows.codes + t * row_bytes);
  }
}

}  // namespace bebert

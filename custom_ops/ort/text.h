// SPDX-License-Identifier: Apache-2.0
// A short text put together piece by piece, for error messages. What does not fit is cut off.
#ifndef BEBERT_EDGE_ORT_TEXT_H_
#define BEBERT_EDGE_ORT_TEXT_H_

#include <stddef.h>
#include <stdint.h>

namespace bebert {

class Text {
 public:
  Text& operator<<(const char* text) {
    while (*text && length_ + 1 < sizeof(characters_)) characters_[length_++] = *text++;
    characters_[length_] = 0;
    return *this;
  }

  Text& operator<<(int64_t number) {
    char digits[24];
    char* begin = digits + sizeof(digits) - 1;
    *begin = 0;
    uint64_t rest = number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    do *--begin = static_cast<char>('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) *--begin = '-';
    return *this << static_cast<const char*>(begin);
  }

  const char* characters() const { return characters_; }
  size_t length() const { return length_; }

 private:
  char characters_[768] = {};
  size_t length_ = 0;
};

static inline bool equal(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}

}  // namespace bebert

#endif  // BEBERT_EDGE_ORT_TEXT_H_

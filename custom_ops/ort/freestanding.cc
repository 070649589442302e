// SPDX-License-Identifier: Apache-2.0
// The four memory functions that compilers call of their own accord, so that the library needs no C library. The
// linker's version script hides them: the process keeps its own. Compiled without the optimisation that would turn
// these loops into calls of themselves.
#include <stddef.h>
#include <stdint.h>

namespace {

struct __attribute__((packed, may_alias)) Word {
  uint64_t bits;
};

}  // namespace

extern "C" void* memcpy(void* __restrict destination, const void* __restrict source, size_t bytes) {
  uint8_t* to = static_cast<uint8_t*>(destination);
  const uint8_t* from = static_cast<const uint8_t*>(source);
  for (; bytes >= 8; bytes -= 8, to += 8, from += 8) {
    *reinterpret_cast<Word*>(to) = *reinterpret_cast<const Word*>(from);
  }
  for (; bytes > 0; --bytes) *to++ = *from++;
  return destination;
}

extern "C" void* memmove(void* destination, const void* source, size_t bytes) {
  uint8_t* to = static_cast<uint8_t*>(destination);
  const uint8_t* from = static_cast<const uint8_t*>(source);
  if (to < from) {
    for (size_t i = 0; i < bytes; ++i) to[i] = from[i];
  } else {
    for (size_t i = bytes; i-- > 0;) to[i] = from[i];
  }
  return destination;
}

extern "C" void* memset(void* destination, int value, size_t bytes) {
  uint8_t* to = static_cast<uint8_t*>(destination);
  const uint64_t pattern = 0x0101010101010101u * static_cast<uint8_t>(value);
  for (; bytes >= 8; bytes -= 8, to += 8) reinterpret_cast<Word*>(to)->bits = pattern;
  for (; bytes > 0; --bytes) *to++ = static_cast<uint8_t>(value);
  return destination;
}

extern "C" int memcmp(const void* left, const void* right, size_t bytes) {
  const uint8_t* a = static_cast<const uint8_t*>(left);
  const uint8_t* b = static_cast<const uint8_t*>(right);
  for (size_t i = 0; i < bytes; ++i) {
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

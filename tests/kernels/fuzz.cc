// SPDX-License-Identifier: Apache-2.0
// Random cases of every op, on every CPU path of this machine against scalar:
//
//   fuzz [--seed FIRST] [--cases N | --seconds N] [--path PATH]     cases FIRST, FIRST + 1, ...
//   fuzz --case NUMBER [--path PATH]                                one case again
#include "fuzz.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>

// Of the sanitizers' runtime, where there is one: what to call before it ends the process.
#if defined(__APPLE__)
constexpr void (*__sanitizer_set_death_callback)(void (*callback)()) = nullptr;  // weak symbols need linker options
#else
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
#endif

namespace bebert {

namespace {

constexpr unsigned kSecondsPerCase = 120;

void tell_case() {
  const char* const texts[] = {"FAILED, ", reproduction};
  for (const char* text : texts) {
    if (write(STDOUT_FILENO, text, strlen(text)) < 0) return;
  }
}

void on_signal(int number) {
  tell_case();
  signal(number, SIG_DFL);
  raise(number);
}

void tell_case_of_crashes() {
  signal(SIGALRM, on_signal);
  if (__sanitizer_set_death_callback) return __sanitizer_set_death_callback(tell_case);
  for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) signal(number, on_signal);
}

void run_case(uint64_t number, const std::vector<Isa>& paths) {
  Fuzz fuzz = {number, paths};
  fuzz.announce(Isa::scalar);
  alarm(kSecondsPerCase);
  flush = fuzz.random.one_in(2) ? Flush::end : Flush::start;
  const int64_t op = fuzz.random.below(16);
  if (op < 7) return fuzz_packed_binary_matmul(fuzz);
  if (op < 11) return fuzz_binary_attention(fuzz);
  if (op < 13) return fuzz_add_layer_norm_quantize(fuzz);
  if (op < 15) return fuzz_quantize(fuzz);
  fuzz_packed_binary_embedding(fuzz);
}

struct Options {
  uint64_t seed = 1, cases = UINT64_MAX;
  double seconds = 1e9;
  std::vector<Isa> paths = bebert::paths();

  bool read(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
      if (!read(argv[i], argv[i + 1])) return false;
    }
    return argc % 2 == 1;
  }

 private:
  bool read(const std::string& option, const char* value) {
    if (option == "--path") {
      const std::vector<Isa> all = paths;
      paths.clear();
      for (Isa isa : all) {
        if (value == std::string(name(isa))) paths = {isa};
      }
      return !paths.empty();
    }
    char* end = nullptr;
    const uint64_t number = std::strtoull(value, &end, 10);
    if (*value == 0 || *end != 0) return false;
    if (option == "--seconds") seconds = static_cast<double>(number);
    if (option == "--seed" || option == "--case") seed = number;
    if (option == "--cases") cases = number;
    if (option == "--case") cases = 1;
    return option == "--seconds" || option == "--seed" || option == "--case" || option == "--cases";
  }
};

int run(const Options& options) {
  std::printf("paths:");
  for (Isa isa : options.paths) std::printf(" %s", name(isa));
  std::printf(" scalar; first case %llu\n", static_cast<unsigned long long>(options.seed));
  std::fflush(stdout);
  tell_case_of_crashes();
  const auto start = std::chrono::steady_clock::now();
  uint64_t done = 0;
  for (; done < options.cases; ++done) {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (elapsed.count() > options.seconds) break;
    run_case(options.seed + done, options.paths);
  }
  std::printf("%llu cases, all the same\n", static_cast<unsigned long long>(done));
  return 0;
}

}  // namespace

}  // namespace bebert

int main(int argc, char** argv) {
  bebert::Options options;
  if (options.read(argc, argv)) return bebert::run(options);
  std::fprintf(stderr, "usage: fuzz [--seed FIRST] [--cases N] [--seconds N] [--case NUMBER] [--path PATH]; paths:");
  for (bebert::Isa isa : bebert::paths()) std::fprintf(stderr, " %s", bebert::name(isa));
  std::fprintf(stderr, "\n");
  return 2;
}

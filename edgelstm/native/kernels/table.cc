#include "table.h"

#include <cstdlib>
#include <cstring>

#if defined(__linux__) && defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace edgelstm {

extern const Kernels kReferenceKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
extern const Kernels kNeonDotKernels;
#endif

namespace {

struct Entry {
  const Kernels& kernels;
  bool (*runs)();
};

bool Always() { return true; }

#if defined(__x86_64__)
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#elif defined(__linux__) && defined(__aarch64__)
bool HasDotProduct() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(__APPLE__) && defined(__aarch64__)
bool HasDotProduct() { return true; }
#endif

// From the slowest to the fastest.
const Entry kEntries[] = {
    {kReferenceKernels, Always},
#if defined(__x86_64__)
    {kAvx2Kernels, HasAvx2},
#elif defined(__aarch64__)
    {kNeonKernels, Always},
    {kNeonDotKernels, HasDotProduct},
#endif
};
constexpr int kNumEntries = sizeof kEntries / sizeof *kEntries;

}  // namespace

int NumKernels() { return kNumEntries; }

const Kernels& KernelsAt(int index, bool* runs) {
  *runs = kEntries[index].runs();
  return kEntries[index].kernels;
}

const Kernels* ChooseKernels(const char** problem) {
  *problem = nullptr;
  const char* wanted = std::getenv("EDGELSTM_KERNELS");
  for (int i = kNumEntries - 1; i >= 0; --i) {
    const Entry& entry = kEntries[i];
    if (wanted && *wanted) {
      if (std::strcmp(wanted, entry.kernels.name) != 0) continue;
      if (!entry.runs()) *problem = "EDGELSTM_KERNELS names kernels that this processor cannot run";
      return *problem ? nullptr : &entry.kernels;
    }
    if (i > 0 && entry.runs()) return &entry.kernels;
  }
  if (wanted && *wanted) *problem = "EDGELSTM_KERNELS names kernels that this library does not have";
  return nullptr;
}

}  // namespace edgelstm

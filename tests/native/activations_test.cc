// How far tanh and sigmoid of the kernels are from the true ones, over all floats or every N-th.
//
//   activations_test [N]
//
// Ends with 1 if a bound that activations.h states is exceeded.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/activations.h"

#if defined(__AVX2__)
#include "kernels/simd/avx2.h"
using Wrapper = edgelstm::Avx2;
#elif defined(__aarch64__)
#include "kernels/simd/neon.h"
using Wrapper = edgelstm::Neon;
#endif

namespace edgelstm {
namespace {

double TrueTanh(double x) { return std::tanh(x); }
double TrueSigmoid(double x) { return 1 / (1 + std::exp(-x)); }

float FloatOf(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The largest error over positive and negative numbers of these sizes; not a number where one came out.
template <class Ratio, class True>
double LargestError(Ratio ratio, True truth, float least, float most, uint32_t step) {
  uint32_t first, last;
  std::memcpy(&first, &least, sizeof first);
  std::memcpy(&last, &most, sizeof last);
  double largest = 0;
  for (uint64_t bits = first; bits <= last; bits += static_cast<uint64_t>(step) * Wrapper::kWidth / 2) {
    float x[Wrapper::kWidth], y[Wrapper::kWidth];
    for (int i = 0; i < Wrapper::kWidth; ++i)
      x[i] = (i % 2 ? -1 : 1) * FloatOf(static_cast<uint32_t>(bits) + static_cast<uint32_t>(i / 2) * step);
    Wrapper::Store(y, Quotient<Wrapper>(ratio(Wrapper::Load(x))));
    for (int i = 0; i < Wrapper::kWidth; ++i) {
      const double error = std::fabs(y[i] - truth(static_cast<double>(x[i])));
      if (!(error <= largest)) largest = error;
    }
  }
  return largest;
}

int Check(const char* name, double error, double bound) {
  std::printf("%s: %.3g, at most %.3g\n", name, error, bound);
  return !(error <= bound);
}

int Run(uint32_t step) {
  int failures = 0;
  const auto tanh = [](auto x) { return TanhRatio<Wrapper, Precise>(x); };
  const auto sigmoid = [](auto x) { return SigmoidRatio<Wrapper, Precise>(x); };
  const auto coarse_tanh = [](auto x) { return TanhRatio<Wrapper, Coarse>(x); };
  const auto coarse_sigmoid = [](auto x) { return SigmoidRatio<Wrapper, Coarse>(x); };
  // Below 2^-12 both are their first terms; a few of these and of those beyond the limits are enough.
  failures += Check("tanh", LargestError(tanh, TrueTanh, 0x1p-12f, 10, step), 4e-7);
  failures += Check("tanh of small numbers", LargestError(tanh, TrueTanh, 0, 0x1p-12f, 1000 * step), 3e-11);
  failures += Check("tanh of large numbers", LargestError(tanh, TrueTanh, 10, 3e38f, 1000 * step), 2e-7);
  failures += Check("sigmoid", LargestError(sigmoid, TrueSigmoid, 0x1p-12f, 20, step), 2e-7);
  failures += Check("sigmoid of small numbers", LargestError(sigmoid, TrueSigmoid, 0, 0x1p-12f, 1000 * step), 1e-7);
  failures += Check("sigmoid of large numbers", LargestError(sigmoid, TrueSigmoid, 20, 3e38f, 1000 * step), 2e-7);
  failures += Check("coarse tanh", LargestError(coarse_tanh, TrueTanh, 0x1p-12f, 8, step), 4e-6);
  failures += Check("coarse sigmoid", LargestError(coarse_sigmoid, TrueSigmoid, 0x1p-12f, 8, step), 8e-6);
  return failures > 0;
}

}  // namespace
}  // namespace edgelstm

int main(int count, char** arguments) {
  return edgelstm::Run(count > 1 ? static_cast<uint32_t>(std::strtoul(arguments[1], nullptr, 10)) : 1);
}

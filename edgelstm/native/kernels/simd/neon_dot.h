// NEON with the dot product of Armv8.2 (Cortex-A76: Raspberry Pi 5, phones).
#ifndef EDGELSTM_NATIVE_KERNELS_SIMD_NEON_DOT_H_
#define EDGELSTM_NATIVE_KERNELS_SIMD_NEON_DOT_H_

#include "neon.h"

// Each file that includes this has its own: the linker must not take one compiled for another processor.
namespace edgelstm {
namespace {

struct NeonDot : Neon {
  static constexpr const char* kName = "neon_dot";
  static constexpr int kGroups = 1, kGroup = 4, kWordBytes = 4;
  static constexpr int kInt8RowTile = 4, kInt8BlockTile = 4;

  using Word = int8x16_t;
  using Sum = int32x4_t;
  static Sum NoProducts() { return vdupq_n_s32(0); }
  static Word LoadWord(const unsigned char* p) {
    int32_t values;
    std::memcpy(&values, p, sizeof values);
    return vreinterpretq_s8_s32(vdupq_n_s32(values));
  }
  static int8x16_t LoadWeights(const int8_t* p) { return vld1q_s8(p); }
  static Sum Dot(Sum sum, Word x, int8x16_t weights) { return vdotq_s32(sum, weights, x); }
  static I Total(Sum sum) { return sum; }
};

}  // namespace
}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_SIMD_NEON_DOT_H_

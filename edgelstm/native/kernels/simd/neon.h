// NEON of 64-bit Arm (Cortex-A53 and A72: Raspberry Pi 3 and 4): four floats, int8 products through int16.
#ifndef EDGELSTM_NATIVE_KERNELS_SIMD_NEON_H_
#define EDGELSTM_NATIVE_KERNELS_SIMD_NEON_H_

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

// Each file that includes this has its own: the linker must not take one compiled for another processor.
namespace edgelstm {
namespace {

struct Neon {
  using F = float32x4_t;
  using I = int32x4_t;
  using Quantum = int8_t;
  static constexpr const char* kName = "neon";
  static constexpr int kWidth = 4;
  static constexpr int kGroups = 2, kGroup = 4, kWordBytes = 8;
  static constexpr int kInt8Offset = 0;
  static constexpr int kRowTile = 4, kBlockTile = 4;          // 4 x 4 sums in 32 registers
  static constexpr int kInt8RowTile = 2, kInt8BlockTile = 2;  // of two registers each

  static F Set(float x) { return vdupq_n_f32(x); }
  static F Load(const float* p) { return vld1q_f32(p); }
  static void Store(float* p, F x) { vst1q_f32(p, x); }
  static F Add(F a, F b) { return vaddq_f32(a, b); }
  static F Mul(F a, F b) { return vmulq_f32(a, b); }
  static F Div(F a, F b) { return vdivq_f32(a, b); }
  static F Fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F Min(F a, F b) { return vminq_f32(a, b); }
  static F Max(F a, F b) { return vmaxq_f32(a, b); }
  static F Clamp(F x, F low, F high) { return vminq_f32(high, vmaxq_f32(low, x)); }
  static F Round(F x) { return vrndnq_f32(x); }
  static F RoundAway(F x) { return vrndaq_f32(x); }
  static float LeastOf(F x) { return vminvq_f32(x); }
  static float LargestOf(F x) { return vmaxvq_f32(x); }

  static I SetInt(int32_t x) { return vdupq_n_s32(x); }
  static I LoadInt(const int32_t* p) { return vld1q_s32(p); }
  static I AddInt(I a, I b) { return vaddq_s32(a, b); }
  static I SubInt(I a, I b) { return vsubq_s32(a, b); }
  static I MulInt(I a, I b) { return vmulq_s32(a, b); }
  static F ToFloat(I x) { return vcvtq_f32_s32(x); }
  static F LoadInt16(const int16_t* p) { return ToFloat(vmovl_s16(vld1_s16(p))); }
  static void StoreInt16(int16_t* p, F x) { vst1_s16(p, vmovn_s32(vcvtq_s32_f32(x))); }
  static void StoreInt8(int8_t* p, F x) {
    const int16x4_t narrow = vmovn_s32(vcvtq_s32_f32(x));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(narrow, narrow));
    std::memcpy(p, &bytes, 4);
  }
  static void StoreQuanta(Quantum* p, F x) { StoreInt8(p, x); }

  // Two products fit into int16, as no weight is -128: 2 * 128 * 127. Sums of neighbours stay apart until the end.
  struct Word {
    int8x16_t first, second;
  };
  struct Sum {
    int32x4_t low, high;
  };
  static Sum NoProducts() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static Word LoadWord(const unsigned char* p) {
    int32_t values[2];
    std::memcpy(values, p, sizeof values);
    return {vreinterpretq_s8_s32(vdupq_n_s32(values[0])), vreinterpretq_s8_s32(vdupq_n_s32(values[1]))};
  }
  static int8x16x2_t LoadWeights(const int8_t* p) { return {{vld1q_s8(p), vld1q_s8(p + 16)}}; }
  static Sum Dot(Sum sum, const Word& x, const int8x16x2_t& w) {
    int16x8_t low = vmull_s8(vget_low_s8(w.val[0]), vget_low_s8(x.first));
    int16x8_t high = vmull_high_s8(w.val[0], x.first);
    low = vmlal_s8(low, vget_low_s8(w.val[1]), vget_low_s8(x.second));
    high = vmlal_high_s8(high, w.val[1], x.second);
    return {vpadalq_s16(sum.low, low), vpadalq_s16(sum.high, high)};
  }
  static I Total(const Sum& sum) { return vpaddq_s32(sum.low, sum.high); }
};

}  // namespace
}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_SIMD_NEON_H_

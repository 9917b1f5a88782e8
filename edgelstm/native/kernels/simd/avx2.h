// AVX2 and FMA: eight floats, int8 products through int16.
#ifndef EDGELSTM_NATIVE_KERNELS_SIMD_AVX2_H_
#define EDGELSTM_NATIVE_KERNELS_SIMD_AVX2_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

// Each file that includes this has its own: the linker must not take one compiled for another processor.
namespace edgelstm {
namespace {

struct Avx2 {
  using F = __m256;   // floats
  using I = __m256i;  // int32
  using Quantum = int16_t;  // an int8 value of a word
  static constexpr const char* kName = "avx2";
  static constexpr int kWidth = 8;
  static constexpr int kGroups = 1, kGroup = 2, kWordBytes = 4;
  static constexpr int kInt8Offset = 0;
  static constexpr int kRowTile = 3, kBlockTile = 2;  // 3 x 4 or 2 x 4 sums in 16 registers
  static constexpr int kInt8RowTile = 3, kInt8BlockTile = 2;

  static F Set(float x) { return _mm256_set1_ps(x); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }  // a * b + c
  static F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  // Not a number stays one: both instructions return their second operand then.
  static F Clamp(F x, F low, F high) { return _mm256_min_ps(high, _mm256_max_ps(low, x)); }
  static F Round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F RoundAway(F x) {  // halves away from zero, as std::round
    F half = _mm256_or_ps(_mm256_and_ps(x, Set(-0.0f)), Set(0x1.fffffep-2f));
    return _mm256_round_ps(_mm256_add_ps(x, half), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
  }
  static float LeastOf(F x) {
    __m128 y = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_min_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_min_ss(y, _mm_movehdup_ps(y)));
  }
  static float LargestOf(F x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }

  static I SetInt(int32_t x) { return _mm256_set1_epi32(x); }
  static I LoadInt(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static I AddInt(I a, I b) { return _mm256_add_epi32(a, b); }
  static I SubInt(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I MulInt(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static F ToFloat(I x) { return _mm256_cvtepi32_ps(x); }
  static F LoadInt16(const int16_t* p) {
    return ToFloat(_mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  // Whole numbers in range: what comes in was clamped.
  static void StoreInt16(int16_t* p, F x) {
    I y = _mm256_cvttps_epi32(x);
    __m128i z = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), z);
  }
  static void StoreQuanta(Quantum* p, F x) { StoreInt16(p, x); }
  static void StoreInt8(int8_t* p, F x) {
    I y = _mm256_cvttps_epi32(x);
    __m128i z = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(z, z));
  }

  // Dot products: of a word, the same for every unit, with each unit's weights.
  using Word = __m256i;
  using Sum = __m256i;
  static Sum NoProducts() { return _mm256_setzero_si256(); }
  static Word LoadWord(const unsigned char* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  static __m256i LoadWeights(const int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Sum Dot(Sum sum, Word x, __m256i weights) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, weights)); }
  static I Total(Sum sum) { return sum; }
};

}  // namespace
}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_SIMD_AVX2_H_

// What hybrid and integer kernels share: products of int8 vectors, and the way from floats to them.
#ifndef EDGELSTM_NATIVE_KERNELS_INT8_H_
#define EDGELSTM_NATIVE_KERNELS_INT8_H_

#include "kernels.h"
#include "tiles.h"

namespace edgelstm {

// How many rows and blocks the registers hold in sums of int8 products: see tiles.h.
struct Int8Tiles {
  template <class S>
  static constexpr int kRowTile = S::kInt8RowTile;
  template <class S>
  static constexpr int kBlockTile = S::kInt8BlockTile;
};

// Values of a word, which is as far as vectors are filled up with zeros.
template <class S>
constexpr int kWordValues = S::kGroups * S::kGroup;

// Sums of kRows vectors with the weights of kBlocks blocks.
template <class S, int kRows, int kBlocks>
inline void Products(const Int8Weights& weights, const Words* x, ptrdiff_t x_stride, int block,
                     typename S::I (&results)[kRows][kBlocks][kNumGates]) {
  constexpr int kRun = S::kWidth * kWordValues<S>, kBlock = kNumGates * kRun;
  const ptrdiff_t panel = static_cast<ptrdiff_t>(weights.words) * kBlock;
  typename S::Sum sums[kRows][kBlocks][kNumGates];
  for (auto& row : sums)
    for (auto& unit : row)
      for (auto& sum : unit) sum = S::NoProducts();
  const int8_t* values = weights.values + block * panel;
  for (int k = 0; k < weights.words; ++k, values += kBlock, x += S::kWordBytes) {
    typename S::Word words[kRows];
    for (int r = 0; r < kRows; ++r) words[r] = S::LoadWord(x + r * x_stride);
    for (int b = 0; b < kBlocks; ++b)
      for (int gate = 0; gate < kNumGates; ++gate) {
        const auto w = S::LoadWeights(values + b * panel + gate * kRun);
        for (int r = 0; r < kRows; ++r) sums[r][b][gate] = S::Dot(sums[r][b][gate], words[r], w);
      }
  }
  for (int r = 0; r < kRows; ++r)
    for (int b = 0; b < kBlocks; ++b)
      for (int gate = 0; gate < kNumGates; ++gate) results[r][b][gate] = S::Total(sums[r][b][gate]);
}

// The range of a row becomes its scale and zero point: `PortableAsymmetricQuantizeFloats` and
// `PortableSymmetricQuantizeFloats` of the stock runtime, whose results these are.
static inline RowScale ScaleOfRange(float least, float largest, bool asymmetric) {
  if (!asymmetric) {
    const float range = largest > -least ? largest : -least;
    return {range == 0 ? 1.0f : range / 127, 0};
  }
  const double low = least < 0 ? least : 0, high = largest > 0 ? largest : 0;
  if (low == high) return {1.0f, 0};
  const double scale = (high - low) / 255, from_low = low / scale, from_high = high / scale;
  const double zero = 128 - from_low < 127 + from_high ? -128 - from_low : 127 - from_high;
  const int rounded = zero <= -128 ? -128 : zero >= 127 ? 127 : static_cast<int>(zero < 0 ? zero - 0.5 : zero + 0.5);
  return {static_cast<float>(scale), rounded};
}

// Factor from values to their numbers in units of the scale. Symmetric rows are divided by their range.
static inline float InverseOfScale(RowScale row, float least, float largest, bool asymmetric) {
  if (asymmetric) return 1 / row.scale;
  const float range = largest > -least ? largest : -least;
  return range == 0 ? 0 : 127 / range;
}

// Quantizes `blocks` whole runs of a row's values, of which those behind `count` are zeros.
template <class S>
inline RowScale QuantizeBlocks(const float* x, int blocks, float least, float largest, bool asymmetric, Words* words) {
  using Quantum = typename S::Quantum;
  const RowScale row = ScaleOfRange(least, largest, asymmetric);
  const typename S::F inverse = S::Set(InverseOfScale(row, least, largest, asymmetric));
  const typename S::F zero = S::Set(static_cast<float>(row.zero_point));
  const typename S::F low = S::Set(asymmetric ? -128 : -127), high = S::Set(127), offset = S::Set(S::kInt8Offset);
  Quantum* quanta = reinterpret_cast<Quantum*>(words);
  for (int i = 0; i < blocks; ++i) {
    typename S::F value = S::RoundAway(S::Add(zero, S::Mul(S::Load(x + i * S::kWidth), inverse)));
    S::StoreQuanta(quanta + i * S::kWidth, S::Add(S::Clamp(value, low, high), offset));
  }
  return row;
}

template <class S>
void QuantizeRowsOf(const QuantizeRows& s) {
  const int whole = s.features / S::kWidth, rest = s.features % S::kWidth;
  for (int r = 0; r < s.rows; ++r) {
    const float* x = s.x + r * s.x_stride;
    Words* words = s.words + r * s.words_stride;
    float tail[S::kWidth] = {};
    Copy(tail, x + whole * S::kWidth, rest);
    typename S::F least = S::Load(tail), largest = least;
    if (whole > 0 && rest == 0) least = largest = S::Load(x);
    for (int i = 0; i < whole; ++i) {
      least = S::Min(least, S::Load(x + i * S::kWidth));
      largest = S::Max(largest, S::Load(x + i * S::kWidth));
    }
    // Zeros behind the last value change nothing: every range is widened to hold zero.
    const float low = S::LeastOf(least), high = S::LargestOf(largest);
    s.row_scales[r] = QuantizeBlocks<S>(x, whole, low, high, s.asymmetric, words);
    if (rest > 0)
      QuantizeBlocks<S>(tail, 1, low, high, s.asymmetric, words + whole * S::kWidth * sizeof(typename S::Quantum));
  }
}

template <class S>
void PackRowsInt8(const PackInt8& s) {
  using Quantum = typename S::Quantum;
  const int filled = (s.features + kWordValues<S> - 1) / kWordValues<S> * kWordValues<S>;
  for (int r = 0; r < s.rows; ++r) {
    const int8_t* x = s.x + r * s.x_stride;
    Quantum* quanta = reinterpret_cast<Quantum*>(s.words + r * s.words_stride);
    for (int i = 0; i < s.features; ++i) quanta[i] = static_cast<Quantum>(x[i] + S::kInt8Offset);
    for (int i = s.features; i < filled; ++i) quanta[i] = S::kInt8Offset;
  }
}

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_INT8_H_

// Integer kernels (int8 hidden state, int16 cell state), written once for all instruction sets.
//
// They round where `LstmStepInteger8x8_16` of the stock runtime rounds, so that their results are its results but for
// values that lie next to the middle between two steps.
#ifndef EDGELSTM_NATIVE_KERNELS_INTEGER_H_
#define EDGELSTM_NATIVE_KERNELS_INTEGER_H_

#include "activations.h"
#include "int8.h"
#include "kernels.h"
#include "tiles.h"

namespace edgelstm {

struct Integer : Int8Tiles {
  template <class S, int kRows>
  static void InputTile(const InputInt8& s, int row, int block) {
    constexpr int kBlock = kNumGates * S::kWidth;
    typename S::I sums[kRows][1][kNumGates];
    Products<S>(s.weights, s.x + row * s.x_stride, s.x_stride, block, sums);
    for (int r = 0; r < kRows; ++r)
      for (int gate = 0; gate < kNumGates; ++gate) {
        const int place = block * kBlock + gate * S::kWidth;
        const auto value = Saturate<S>(Requantize<S>(sums[r][0][gate], s.weights, s.bias, place));
        S::Store(s.gates + (row + r) * s.gates_stride + place, value);
      }
  }

  template <class S, int kRows, int kBlocks>
  static void StepTile(const SequenceInt8& s, int t, int row, int block) {
    constexpr int kBlock = kNumGates * S::kWidth;
    const ptrdiff_t stride = static_cast<ptrdiff_t>(s.blocks) * S::kWidth;
    typename S::I sums[kRows][kBlocks][kNumGates];
    Products<S>(s.weights, s.hidden[t % 2] + row * s.hidden_stride, s.hidden_stride, block, sums);
    const float* gates = s.gates + t * s.gates_time_stride;
    for (int r = 0; r < kRows; ++r)
      for (int b = 0; b < kBlocks; ++b) {
        typename S::F values[kNumGates];
        for (int gate = 0; gate < kNumGates; ++gate) {
          const int place = (block + b) * kBlock + gate * S::kWidth;
          values[gate] = S::Add(S::Load(gates + (row + r) * s.gates_batch_stride + place),
                                Requantize<S>(sums[r][b][gate], s.weights, s.bias, place));
        }
        const int unit = (block + b) * S::kWidth;
        const auto h = Finish<S>(values, s.cell + (row + r) * stride + unit, s);
        auto* quanta = reinterpret_cast<typename S::Quantum*>(s.hidden[(t + 1) % 2] + (row + r) * s.hidden_stride);
        S::StoreQuanta(quanta + unit, S::Add(h, S::Set(S::kInt8Offset)));
        int8_t* output = s.output + t * s.output_time_stride + (row + r) * s.output_batch_stride + unit;
        if (unit + S::kWidth <= s.units) {
          S::StoreInt8(output, h);
        } else {
          int8_t last[S::kWidth];
          S::StoreInt8(last, h);
          Copy(output, last, s.units - unit);
        }
      }
  }

  template <class S>
  static void Run(const SequenceInt8& s) {
    for (int t = 0; t < s.time; ++t) Step<S, Integer>(s, t);
  }

 private:
  template <class S>
  static typename S::F Saturate(typename S::F x) {
    return S::Clamp(x, S::Set(-32768), S::Set(32767));
  }

  // A product's sum in units of 2^-12, as whole numbers.
  template <class S>
  static typename S::F Requantize(typename S::I sum, const Int8Weights& weights, const int32_t* bias, int place) {
    return S::Round(S::Mul(S::ToFloat(S::AddInt(sum, S::LoadInt(bias + place))), S::Load(weights.scale + place)));
  }

  // In units of 2^-15, of which int16 has no room for 1.
  template <class S>
  static typename S::F Fraction(Ratio<S> x) {
    return S::Min(S::Round(S::Mul(Quotient<S>(x), S::Set(0x1p15f))), S::Set(32767));
  }

  // Gates in units of 2^-12 to the int8 hidden state of a block's units.
  template <class S>
  static typename S::F Finish(const typename S::F (&gates)[kNumGates], int16_t* cell, const SequenceInt8& s) {
    using F = typename S::F;
    F gate[kNumGates];
    for (int i = 0; i < kNumGates; ++i) gate[i] = S::Mul(Saturate<S>(gates[i]), S::Set(0x1p-12f));
    const F i = Fraction<S>(SigmoidRatio<S, Coarse>(gate[kInputGate]));
    const F f = Fraction<S>(SigmoidRatio<S, Coarse>(gate[kForgetGate]));
    const F g = Fraction<S>(TanhRatio<S, Coarse>(gate[kCellGate]));
    const F o = Fraction<S>(SigmoidRatio<S, Coarse>(gate[kOutputGate]));
    const F kept = S::Round(S::Mul(S::Mul(f, S::LoadInt16(cell)), S::Set(0x1p-15f)));
    const F added = S::Round(S::Mul(S::Mul(i, g), S::Set(0x1p-30f / s.cell_unit)));
    F c = Saturate<S>(S::Add(kept, added));
    if (s.cell_clip > 0) c = S::Clamp(c, S::Set(-s.cell_clip), S::Set(s.cell_clip));
    S::StoreInt16(cell, c);
    const F squashed = Fraction<S>(TanhRatio<S, Coarse>(S::Mul(c, S::Set(s.cell_unit))));
    const F h = S::RoundAway(S::Mul(S::Mul(o, squashed), S::Set(s.hidden_scale)));
    return S::Clamp(S::Add(h, S::Set(s.hidden_zero_point)), S::Set(-128), S::Set(127));
  }
};

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_INTEGER_H_

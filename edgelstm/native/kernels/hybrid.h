// Kernels of int8 weights and float everything else, written once for all instruction sets.
#ifndef EDGELSTM_NATIVE_KERNELS_HYBRID_H_
#define EDGELSTM_NATIVE_KERNELS_HYBRID_H_

#include "activations.h"
#include "int8.h"
#include "kernels.h"
#include "tiles.h"

namespace edgelstm {

struct Hybrid : Int8Tiles {
  template <class S, int kRows>
  static void InputTile(const InputHybrid& s, int row, int block) {
    constexpr int kBlock = kNumGates * S::kWidth;
    typename S::I sums[kRows][1][kNumGates];
    Products<S>(s.weights, s.x + row * s.x_stride, s.x_stride, block, sums);
    for (int r = 0; r < kRows; ++r)
      for (int gate = 0; gate < kNumGates; ++gate) {
        const int place = block * kBlock + gate * S::kWidth;
        const auto value = Dequantize<S>(sums[r][0][gate], s.weights, place, s.row_scales[row + r]);
        S::Store(s.gates + (row + r) * s.gates_stride + place, S::Add(S::Load(s.bias + place), value));
      }
  }

  template <class S, int kRows, int kBlocks>
  static void StepTile(const SequenceHybrid& s, int t, int row, int block) {
    constexpr int kBlock = kNumGates * S::kWidth;
    const ptrdiff_t stride = static_cast<ptrdiff_t>(s.blocks) * S::kWidth;
    typename S::I sums[kRows][kBlocks][kNumGates];
    Products<S>(s.weights, s.words + row * s.words_stride, s.words_stride, block, sums);
    const float* gates = s.gates + t * s.gates_time_stride;
    for (int r = 0; r < kRows; ++r)
      for (int b = 0; b < kBlocks; ++b) {
        typename S::F values[kNumGates];
        for (int gate = 0; gate < kNumGates; ++gate) {
          const int place = (block + b) * kBlock + gate * S::kWidth;
          values[gate] = S::Add(S::Load(gates + (row + r) * s.gates_batch_stride + place),
                                Dequantize<S>(sums[r][b][gate], s.weights, place, s.row_scales[row + r]));
        }
        const ptrdiff_t place = (row + r) * stride + (block + b) * S::kWidth;
        S::Store(s.hidden + place, FinishStep<S>(values, s.cell + place, s.cell_clip));
      }
  }

  template <class S>
  static void Run(const SequenceHybrid& s) {
    const ptrdiff_t stride = static_cast<ptrdiff_t>(s.blocks) * S::kWidth;
    for (int t = 0; t < s.time; ++t) {
      for (int row = 0; row < s.batch; ++row) QuantizeHidden<S>(s, row);
      Step<S, Hybrid>(s, t);
      for (int row = 0; row < s.batch; ++row)
        Copy(s.output + t * s.output_time_stride + row * s.output_batch_stride, s.hidden + row * stride, s.units);
    }
  }

 private:
  // The padding is zeros, which every range holds.
  template <class S>
  static void QuantizeHidden(const SequenceHybrid& s, int row) {
    const ptrdiff_t stride = static_cast<ptrdiff_t>(s.blocks) * S::kWidth;
    const float* hidden = s.hidden + row * stride;
    typename S::F least = S::Load(hidden), largest = least;
    for (int block = 1; block < s.blocks; ++block) {
      least = S::Min(least, S::Load(hidden + block * S::kWidth));
      largest = S::Max(largest, S::Load(hidden + block * S::kWidth));
    }
    s.row_scales[row] = QuantizeBlocks<S>(hidden, s.blocks, S::LeastOf(least), S::LargestOf(largest), s.asymmetric,
                                          s.words + row * s.words_stride);
  }

  // What a vector's own zero point adds to its products with a block of one gate, and their scales.
  template <class S>
  static typename S::F Dequantize(typename S::I sum, const Int8Weights& weights, int place, RowScale row) {
    typename S::I zero = S::SetInt(row.zero_point + S::kInt8Offset);
    sum = S::SubInt(sum, S::MulInt(zero, S::LoadInt(weights.sums + place)));
    return S::Mul(S::ToFloat(sum), S::Mul(S::Set(row.scale), S::Load(weights.scale + place)));
  }
};

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_HYBRID_H_

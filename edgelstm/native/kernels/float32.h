// Float32 kernels, written once for all instruction sets.
#ifndef EDGELSTM_NATIVE_KERNELS_FLOAT32_H_
#define EDGELSTM_NATIVE_KERNELS_FLOAT32_H_

#include "activations.h"
#include "kernels.h"
#include "tiles.h"

namespace edgelstm {

struct Float32 {
  template <class S>
  static constexpr int kRowTile = S::kRowTile;
  template <class S>
  static constexpr int kBlockTile = S::kBlockTile;

  template <class S, int kRows>
  static void InputTile(const InputF32& s, int row, int block) {
    constexpr int kBlock = kNumGates * S::kWidth;
    typename S::F sums[kRows][1][kNumGates];
    for (int gate = 0; gate < kNumGates; ++gate)
      for (int r = 0; r < kRows; ++r) sums[r][0][gate] = S::Load(s.bias + block * kBlock + gate * S::kWidth);
    Accumulate<S>(s.weights, s.features, s.x + row * s.x_stride, s.x_stride, block, sums);
    for (int r = 0; r < kRows; ++r)
      for (int gate = 0; gate < kNumGates; ++gate)
        S::Store(s.gates + (row + r) * s.gates_stride + block * kBlock + gate * S::kWidth, sums[r][0][gate]);
  }

  template <class S, int kRows, int kBlocks>
  static void StepTile(const SequenceF32& s, int t, int row, int block) {
    constexpr int kBlock = kNumGates * S::kWidth;
    const ptrdiff_t stride = static_cast<ptrdiff_t>(s.blocks) * S::kWidth;
    const float* gates = s.gates + t * s.gates_time_stride;
    typename S::F sums[kRows][kBlocks][kNumGates];
    for (int r = 0; r < kRows; ++r)
      for (int b = 0; b < kBlocks; ++b)
        for (int gate = 0; gate < kNumGates; ++gate)
          sums[r][b][gate] = S::Load(gates + (row + r) * s.gates_batch_stride + (block + b) * kBlock + gate * S::kWidth);
    Accumulate<S>(s.weights, s.units, s.hidden[t % 2] + row * stride, stride, block, sums);
    for (int r = 0; r < kRows; ++r)
      for (int b = 0; b < kBlocks; ++b) {
        const ptrdiff_t place = (row + r) * stride + (block + b) * S::kWidth;
        S::Store(s.hidden[(t + 1) % 2] + place, FinishStep<S>(sums[r][b], s.cell + place, s.cell_clip));
      }
  }

  template <class S>
  static void Run(const SequenceF32& s) {
    const ptrdiff_t stride = static_cast<ptrdiff_t>(s.blocks) * S::kWidth;
    for (int t = 0; t < s.time; ++t) {
      Step<S, Float32>(s, t);
      for (int row = 0; row < s.batch; ++row)
        Copy(s.output + t * s.output_time_stride + row * s.output_batch_stride,
             s.hidden[(t + 1) % 2] + row * stride, s.units);
    }
  }

 private:
  template <class S, int kRows, int kBlocks>
  static void Accumulate(const float* weights, int depth, const float* x, ptrdiff_t x_stride, int block,
                         typename S::F (&sums)[kRows][kBlocks][kNumGates]) {
    constexpr int kBlock = kNumGates * S::kWidth;
    const ptrdiff_t panel = static_cast<ptrdiff_t>(depth) * kBlock;
    weights += block * panel;
    for (int k = 0; k < depth; ++k, weights += kBlock) {
      typename S::F values[kRows];
      for (int r = 0; r < kRows; ++r) values[r] = S::Set(x[r * x_stride + k]);
      for (int b = 0; b < kBlocks; ++b)
        for (int gate = 0; gate < kNumGates; ++gate) {
          const typename S::F w = S::Load(weights + b * panel + gate * S::kWidth);
          for (int r = 0; r < kRows; ++r) sums[r][b][gate] = S::Fma(values[r], w, sums[r][b][gate]);
        }
    }
  }
};

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_FLOAT32_H_

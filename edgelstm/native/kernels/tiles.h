// How kernels walk over rows and blocks: as many of both at a time as registers hold.
//
// A precision is a struct with the two functions that do a tile, and its sizes:
//   InputTile<S, kRows>(side, row, block)
//   StepTile<S, kRows, kBlocks>(sequence, t, row, block)
//   kRowTile<S>, kBlockTile<S>: rows of a batch, or blocks of a single row, at a time
#ifndef EDGELSTM_NATIVE_KERNELS_TILES_H_
#define EDGELSTM_NATIVE_KERNELS_TILES_H_

#include "kernels.h"

namespace edgelstm {

// Functions that do not depend on an instruction set are static: each of its files has to have its own, or the linker
// would take one of them for all.
template <class T>
static inline void Copy(T* to, const T* from, int count) {
  for (int i = 0; i < count; ++i) to[i] = from[i];
}

template <class S, class Precision, int kRows, class Side>
inline void InputRest(const Side& s, int row, int block) {
  if constexpr (kRows > 0) {
    if (s.rows - row == kRows) {
      Precision::template InputTile<S, kRows>(s, row, block);
    } else {
      InputRest<S, Precision, kRows - 1>(s, row, block);
    }
  }
}

template <class S, class Precision, class Side>
void InputSide(const Side& s) {
  constexpr int kRows = Precision::template kRowTile<S>;
  for (int block = 0; block < s.blocks; ++block) {
    int row = 0;
    for (; row + kRows <= s.rows; row += kRows) Precision::template InputTile<S, kRows>(s, row, block);
    InputRest<S, Precision, kRows - 1>(s, row, block);
  }
}

template <class S, class Precision, int kRows, class Kind>
inline void StepRest(const Kind& s, int t, int row, int block) {
  if constexpr (kRows > 0) {
    if (s.batch - row == kRows) {
      Precision::template StepTile<S, kRows, 1>(s, t, row, block);
    } else {
      StepRest<S, Precision, kRows - 1>(s, t, row, block);
    }
  }
}

// A time step of a whole batch. A block's weights serve all rows before the next block's are read.
template <class S, class Precision, class Kind>
inline void Step(const Kind& s, int t) {
  constexpr int kRows = Precision::template kRowTile<S>, kBlocks = Precision::template kBlockTile<S>;
  int block = 0;
  if (s.batch == 1) {
    for (; block + kBlocks <= s.blocks; block += kBlocks) Precision::template StepTile<S, 1, kBlocks>(s, t, 0, block);
  }
  for (; block < s.blocks; ++block) {
    int row = 0;
    for (; row + kRows <= s.batch; row += kRows) Precision::template StepTile<S, kRows, 1>(s, t, row, block);
    StepRest<S, Precision, kRows - 1>(s, t, row, block);
  }
}

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_TILES_H_

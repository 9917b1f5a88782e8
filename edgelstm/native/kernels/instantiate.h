// The table's entry of an instruction set, out of its wrapper. Included once by each of their files.
#ifndef EDGELSTM_NATIVE_KERNELS_INSTANTIATE_H_
#define EDGELSTM_NATIVE_KERNELS_INSTANTIATE_H_

#include "float32.h"
#include "hybrid.h"
#include "int8.h"
#include "integer.h"
#include "kernels.h"

namespace edgelstm {

template <class S>
constexpr Kernels KernelsOf() {
  return {S::kName,
          S::kWidth,
          S::kWordBytes,
          S::kGroups,
          S::kGroup,
          S::kInt8Offset,
          InputSide<S, Float32, InputF32>,
          Float32::Run<S>,
          QuantizeRowsOf<S>,
          InputSide<S, Hybrid, InputHybrid>,
          Hybrid::Run<S>,
          PackRowsInt8<S>,
          InputSide<S, Integer, InputInt8>,
          Integer::Run<S>};
}

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_INSTANTIATE_H_

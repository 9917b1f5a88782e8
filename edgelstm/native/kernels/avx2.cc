#include "simd/avx2.h"

#include "instantiate.h"

namespace edgelstm {

extern const Kernels kAvx2Kernels;
const Kernels kAvx2Kernels = KernelsOf<Avx2>();

}  // namespace edgelstm

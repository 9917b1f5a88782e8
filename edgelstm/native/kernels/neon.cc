#include "simd/neon.h"

#include "instantiate.h"

namespace edgelstm {

extern const Kernels kNeonKernels;
const Kernels kNeonKernels = KernelsOf<Neon>();

}  // namespace edgelstm

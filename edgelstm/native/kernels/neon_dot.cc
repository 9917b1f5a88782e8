#include "simd/neon_dot.h"

#include "instantiate.h"

namespace edgelstm {

extern const Kernels kNeonDotKernels;
const Kernels kNeonDotKernels = KernelsOf<NeonDot>();

}  // namespace edgelstm

// Which kernels this machine runs.
#ifndef EDGELSTM_NATIVE_KERNELS_TABLE_H_
#define EDGELSTM_NATIVE_KERNELS_TABLE_H_

#include "kernels.h"

namespace edgelstm {

// The fastest kernels that this processor can run, or null if all it could run are the plain ones, which no stock runtime
// is slower than. The environment variable EDGELSTM_KERNELS forces those of a name, "reference" among them.
// Returns null with *problem set if they are unknown or cannot run here.
const Kernels* ChooseKernels(const char** problem);

// The number of kernels this library was built with, and the one at an index; `runs` says whether this processor can.
int NumKernels();
const Kernels& KernelsAt(int index, bool* runs);

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_TABLE_H_

// An LSTM layer in the form the kernels take: weights packed once, buffers made once for a shape.
#ifndef EDGELSTM_NATIVE_LSTM_LAYER_H_
#define EDGELSTM_NATIVE_LSTM_LAYER_H_

#include <memory>

#include "kernels/kernels.h"
#include "lstm_operator.h"

namespace edgelstm {

class LstmLayer {
 public:
  virtual ~LstmLayer() = default;

  // Makes all buffers for a shape. False if there is not enough memory.
  virtual bool Prepare(LstmShape shape) = 0;

  // Runs the prepared shape. The states are those before the first step, and then those after the last.
  // All arrays are of the operator's types and shapes.
  virtual void Run(const void* input, void* output, void* hidden_state, void* cell_state) = 0;
};

// Null if there is not enough memory.
std::unique_ptr<LstmLayer> MakeLayer(const Kernels& kernels, const LstmOperator& lstm);

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_LSTM_LAYER_H_

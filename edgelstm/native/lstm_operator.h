// An LSTM operator of a file, checked: what the layers take for granted is established here.
#ifndef EDGELSTM_NATIVE_LSTM_OPERATOR_H_
#define EDGELSTM_NATIVE_LSTM_OPERATOR_H_

#include "kernels/kernels.h"
#include "tflite_abi.h"

namespace edgelstm {

enum class Precision { kFloat32, kHybrid, kInteger };

struct LstmOperator {
  Precision precision;
  int units, features;
  bool time_major, asymmetric;
  float cell_clip;  // 0 for none
  // Indices of tensors.
  int input, output, hidden_state, cell_state;
  // In the order of Gate. Weights are float32, float16 (then they stand behind a DEQUANTIZE in the file) or int8; a bias is
  // float32, float16 or, of integers, int32.
  const TfLiteTensor* input_weights[kNumGates];
  const TfLiteTensor* recurrent_weights[kNumGates];
  const TfLiteTensor* bias[kNumGates];
  // Only of integers: the hidden state as it comes out of a step, the input, the hidden state as it goes into the next.
  TfLiteQuantizationParams hidden_params, input_params, state_params;
  float cell_unit;
};

// Reads an operator.
//
// Returns null, or why it stays with the runtime's own kernel: it is no LSTM, has parts that these kernels lack, or is
// malformed, which the runtime's own kernel will say better.
const char* ReadLstmOperator(TfLiteContext* context, int node_index, LstmOperator* result);

// What depends on shapes that can change between two preparations.
struct LstmShape {
  int time, batch;
};

// Returns null, or what does not fit.
const char* ReadLstmShape(const TfLiteContext* context, const LstmOperator& lstm, LstmShape* result);

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_LSTM_OPERATOR_H_

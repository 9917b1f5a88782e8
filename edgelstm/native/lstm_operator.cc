#include "lstm_operator.h"

#include <cmath>
#include <initializer_list>

namespace edgelstm {
namespace {

// Inputs of UNIDIRECTIONAL_SEQUENCE_LSTM.
constexpr int kInput = 0;
constexpr int kInputWeights = 1;      // four, in the order of Gate; each [units, features]
constexpr int kRecurrentWeights = 5;  // four; each [units, outputs]
constexpr int kPeepholes = 9;         // three
constexpr int kBias = 12;             // four; each [units]
constexpr int kProjection = 16;       // weights and bias
constexpr int kHiddenState = 18;      // [batch, outputs]
constexpr int kCellState = 19;        // [batch, units]
constexpr int kLayerNorm = 20;        // four, not in old files
constexpr int kNumInputs = 24, kNumInputsOfOldFiles = 20;

// So that sums of products stay in int32: 16384 * 128 * 128 of them, twice that of their zero point, and a bias.
constexpr int kMostValues = 16384;
constexpr int kMostBias = 1 << 29;

// Tensors of a node, by place; null for those that are left out.
class Tensors {
 public:
  Tensors(const TfLiteContext* context, const TfLiteNode* node) : context_(context), node_(node) {}

  bool AreInRange() const {
    return AreInRange(node_->inputs) && AreInRange(node_->outputs) &&
           (node_->intermediates == nullptr || AreInRange(node_->intermediates));
  }
  int Index(int place) const { return place < node_->inputs->size ? node_->inputs->data[place] : -1; }
  const TfLiteTensor* operator[](int place) const {
    const int index = Index(place);
    return index < 0 ? nullptr : &context_->tensors[index];
  }
  bool HasAny(int first, int count) const {
    for (int place = first; place < first + count; ++place)
      if (Index(place) >= 0) return true;
    return false;
  }

 private:
  bool AreInRange(const TfLiteIntArray* indices) const {
    if (indices == nullptr) return false;
    for (int i = 0; i < indices->size; ++i)
      if (indices->data[i] < -1 || indices->data[i] >= static_cast<int64_t>(context_->tensors_size)) return false;
    return true;
  }

  const TfLiteContext* context_;
  const TfLiteNode* node_;
};

size_t SizeOf(TfLiteType type) {
  switch (type) {
    case kTfLiteFloat32:
    case kTfLiteInt32:
      return 4;
    case kTfLiteFloat16:
    case kTfLiteInt16:
      return 2;
    case kTfLiteInt8:
      return 1;
    default:
      return 0;
  }
}

// Whether a tensor is a constant of a type with these sizes, and all its bytes are there. A second size of 0 stands for a
// tensor of one axis.
bool IsConstant(const TfLiteTensor* tensor, TfLiteType type, int first, int second) {
  if (tensor == nullptr || tensor->type != type || tensor->allocation_type != kTfLiteMmapRo || tensor->data == nullptr ||
      tensor->sparsity != nullptr || tensor->dims == nullptr || tensor->dims->size != (second ? 2 : 1) ||
      tensor->dims->data[0] != first || (second && tensor->dims->data[1] != second))
    return false;
  return tensor->bytes == static_cast<size_t>(first) * (second ? second : 1) * SizeOf(type);
}

bool IsScale(float scale) { return std::isfinite(scale) && scale > 0; }

bool IsState(const TfLiteTensor* tensor, TfLiteType type) {
  return tensor != nullptr && tensor->type == type && tensor->is_variable;
}

bool FitsSums(const TfLiteTensor& bias, int count) {
  const auto* values = static_cast<const int32_t*>(bias.data);
  for (int i = 0; i < count; ++i)
    if (values[i] < -kMostBias || values[i] > kMostBias) return false;
  return true;
}

// The specification keeps -128 out of symmetric weights, and products of two bytes rely on it.
bool HasNoLeastInt8(const TfLiteTensor& weights) {
  const auto* values = static_cast<const int8_t*>(weights.data);
  for (size_t i = 0; i < weights.bytes; ++i)
    if (values[i] == -128) return false;
  return true;
}

// The tensor itself, or the float16 constant that a DEQUANTIZE operator makes it from.
const TfLiteTensor* FindConstant(TfLiteContext* context, int index) {
  if (index < 0) return nullptr;
  const TfLiteTensor* tensor = &context->tensors[index];
  if (tensor->allocation_type == kTfLiteMmapRo || tensor->type != kTfLiteFloat32) return tensor;
  TfLiteIntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return tensor;
  for (int i = 0; i < plan->size; ++i) {
    TfLiteNode* node;
    TfLiteRegistration* registration;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration) != kTfLiteOk) return tensor;
    if (registration->builtin_code != kTfLiteBuiltinDequantize || node->outputs->size != 1 ||
        node->inputs->size != 1 || node->outputs->data[0] != index)
      continue;
    const int source = node->inputs->data[0];
    if (source < 0 || source >= static_cast<int64_t>(context->tensors_size)) return tensor;
    const TfLiteTensor* half = &context->tensors[source];
    return half->type == kTfLiteFloat16 && half->allocation_type == kTfLiteMmapRo ? half : tensor;
  }
  return tensor;
}

const char* ReadWeights(TfLiteContext* context, const Tensors& tensors, LstmOperator* lstm) {
  const TfLiteTensor* first = FindConstant(context, tensors.Index(kInputWeights + kOutputGate));
  const TfLiteTensor* recurrent = FindConstant(context, tensors.Index(kRecurrentWeights + kOutputGate));
  if (first == nullptr || first->dims == nullptr || first->dims->size != 2 || recurrent == nullptr ||
      recurrent->dims == nullptr || recurrent->dims->size != 2)
    return "its weights are no matrices";
  lstm->units = first->dims->data[0];
  lstm->features = first->dims->data[1];
  if (lstm->units < 1 || lstm->features < 1 || lstm->units > kMostValues || lstm->features > kMostValues)
    return "it has too many units or features, or none";
  const bool integer = lstm->precision == Precision::kInteger;
  for (int gate = 0; gate < kNumGates; ++gate) {
    const TfLiteTensor* input = FindConstant(context, tensors.Index(kInputWeights + gate));
    const TfLiteTensor* hidden = FindConstant(context, tensors.Index(kRecurrentWeights + gate));
    const TfLiteTensor* bias = FindConstant(context, tensors.Index(kBias + gate));
    if (!IsConstant(input, first->type, lstm->units, lstm->features) ||
        !IsConstant(hidden, first->type, lstm->units, lstm->units))
      return "its weights differ in shape or type, or are not constant";
    if (!IsConstant(bias, integer ? kTfLiteInt32 : kTfLiteFloat32, lstm->units, 0) &&
        (integer || !IsConstant(bias, kTfLiteFloat16, lstm->units, 0)))
      return "a bias is missing, or of another shape or type";
    if (integer && !FitsSums(*bias, lstm->units)) return "a bias is beyond 2^29";
    if (first->type == kTfLiteInt8 &&
        (!IsScale(input->params.scale) || !IsScale(hidden->params.scale) || input->params.zero_point != 0 ||
         hidden->params.zero_point != 0))
      return "its weights have no scale, or a zero point";
    if (first->type == kTfLiteInt8 && (!HasNoLeastInt8(*input) || !HasNoLeastInt8(*hidden)))
      return "its weights hold -128";
    lstm->input_weights[gate] = input;
    lstm->recurrent_weights[gate] = hidden;
    lstm->bias[gate] = bias;
  }
  return nullptr;
}

const char* ReadPrecision(TfLiteContext* context, const Tensors& tensors, LstmOperator* lstm) {
  const TfLiteTensor* input = &context->tensors[lstm->input];
  const TfLiteTensor* weights = FindConstant(context, tensors.Index(kInputWeights + kOutputGate));
  if (weights == nullptr) return "it has no weights";
  const bool is_float = weights->type == kTfLiteFloat32 || weights->type == kTfLiteFloat16;
  if (input->type == kTfLiteFloat32 && is_float) {
    lstm->precision = Precision::kFloat32;
  } else if (input->type == kTfLiteFloat32 && weights->type == kTfLiteInt8) {
    lstm->precision = Precision::kHybrid;
  } else if (input->type == kTfLiteInt8 && weights->type == kTfLiteInt8) {
    lstm->precision = Precision::kInteger;
  } else {
    return "its types are of no precision of these kernels";
  }
  return nullptr;
}

const TfLiteAffineQuantization* AffineQuantization(const TfLiteTensor& tensor) {
  if (tensor.quantization.type != kTfLiteAffineQuantization || tensor.quantization.params == nullptr) return nullptr;
  const auto* result = static_cast<const TfLiteAffineQuantization*>(tensor.quantization.params);
  const bool whole = result->scale != nullptr && result->zero_point != nullptr && result->scale->size == 1 &&
                     result->zero_point->size == 1;
  return whole ? result : nullptr;
}

bool IsInt8Quantization(TfLiteQuantizationParams params) {
  return IsScale(params.scale) && params.zero_point >= -128 && params.zero_point <= 127;
}

// Scales of integers, from where the stock kernel takes them: that of the hidden state before it is rounded from an
// intermediate tensor.
const char* ReadIntegerScales(const TfLiteContext* context, const TfLiteNode* node, LstmOperator* lstm) {
  constexpr int kNumIntermediates = 5, kHidden = 4;
  if (node->intermediates == nullptr || node->intermediates->size != kNumIntermediates ||
      node->intermediates->data[kHidden] < 0)
    return "it has no intermediate tensors";
  const auto* hidden = AffineQuantization(context->tensors[node->intermediates->data[kHidden]]);
  if (hidden == nullptr) return "its hidden state has no scale";
  lstm->hidden_params = {hidden->scale->data[0], hidden->zero_point->data[0]};
  lstm->input_params = context->tensors[lstm->input].params;
  lstm->state_params = context->tensors[lstm->hidden_state].params;
  lstm->cell_unit = context->tensors[lstm->cell_state].params.scale;
  if (!IsInt8Quantization(lstm->hidden_params) || !IsInt8Quantization(lstm->input_params) ||
      !IsInt8Quantization(lstm->state_params))
    return "its input or hidden state has no scale";
  int exponent;
  if (std::frexp(lstm->cell_unit, &exponent) != 0.5f || exponent - 1 < -15 || exponent - 1 > -9)
    return "the scale of its cell state is not a power of two between 2^-15 and 2^-9";
  return nullptr;
}

const char* ReadStates(const TfLiteContext* context, const Tensors& tensors, LstmOperator* lstm) {
  const bool integer = lstm->precision == Precision::kInteger;
  lstm->hidden_state = tensors.Index(kHiddenState);
  lstm->cell_state = tensors.Index(kCellState);
  if (!IsState(tensors[kHiddenState], integer ? kTfLiteInt8 : kTfLiteFloat32) ||
      !IsState(tensors[kCellState], integer ? kTfLiteInt16 : kTfLiteFloat32) ||
      lstm->hidden_state == lstm->cell_state)
    return "its states are no variables of their own";
  const TfLiteTensor* output = &context->tensors[lstm->output];
  if (output->type != (integer ? kTfLiteInt8 : kTfLiteFloat32)) return "its output is of another type";
  return nullptr;
}

}  // namespace

const char* ReadLstmOperator(TfLiteContext* context, int node_index, LstmOperator* lstm) {
  TfLiteNode* node;
  TfLiteRegistration* registration;
  if (context->GetNodeAndRegistration(context, node_index, &node, &registration) != kTfLiteOk)
    return "it cannot be read";
  if (registration->builtin_code != kTfLiteBuiltinUnidirectionalSequenceLstm) return "it is no LSTM";
  const Tensors tensors(context, node);
  if (!tensors.AreInRange() || node->builtin_data == nullptr || node->outputs->size != 1 ||
      (node->inputs->size != kNumInputs && node->inputs->size != kNumInputsOfOldFiles))
    return "it is malformed";
  if (tensors.HasAny(kPeepholes, 3)) return "it has peepholes";
  if (tensors.HasAny(kProjection, 2)) return "it has a projection";
  if (tensors.HasAny(kLayerNorm, 4)) return "it has layer normalization";
  const auto& parameters = *static_cast<const TfLiteUnidirectionalSequenceLSTMParams*>(node->builtin_data);
  if (parameters.activation != kTfLiteActTanh) return "its activation is not tanh";
  lstm->time_major = parameters.time_major;
  lstm->asymmetric = parameters.asymmetric_quantize_inputs;
  lstm->cell_clip = parameters.cell_clip > 0 ? parameters.cell_clip : 0;
  lstm->input = tensors.Index(kInput);
  lstm->output = node->outputs->data[0];
  if (lstm->input < 0 || lstm->output < 0) return "it is malformed";
  if (const char* problem = ReadPrecision(context, tensors, lstm)) return problem;
  if (const char* problem = ReadWeights(context, tensors, lstm)) return problem;
  if (const char* problem = ReadStates(context, tensors, lstm)) return problem;
  return lstm->precision == Precision::kInteger ? ReadIntegerScales(context, node, lstm) : nullptr;
}

const char* ReadLstmShape(const TfLiteContext* context, const LstmOperator& lstm, LstmShape* shape) {
  const TfLiteTensor& input = context->tensors[lstm.input];
  if (input.dims == nullptr || input.dims->size != 3) return "the input of an LSTM has not three axes";
  const int* sizes = input.dims->data;
  shape->time = sizes[lstm.time_major ? 0 : 1];
  shape->batch = sizes[lstm.time_major ? 1 : 0];
  if (shape->time < 0 || shape->batch < 0) return "the input of an LSTM has a negative size";
  const double rows = static_cast<double>(shape->time) * shape->batch;
  if (rows * lstm.features > 0x1p40 || rows * lstm.units > 0x1p40) return "the input of an LSTM is too large";
  if (sizes[2] != lstm.features) return "the input of an LSTM has another number of features than its weights";
  const size_t values = static_cast<size_t>(shape->batch) * lstm.units;
  const TfLiteTensor& hidden = context->tensors[lstm.hidden_state];
  const TfLiteTensor& cell = context->tensors[lstm.cell_state];
  for (const TfLiteTensor* state : {&hidden, &cell}) {
    size_t count = 1;
    if (state->dims == nullptr) return "a state of an LSTM has no shape";
    for (int i = 0; i < state->dims->size; ++i) {
      if (state->dims->data[i] < 0) return "a state of an LSTM has a negative size";
      if (__builtin_mul_overflow(count, static_cast<size_t>(state->dims->data[i]), &count)) count = values + 1;
    }
    if (count != values) return "a state of an LSTM has not its batch times its units values";
  }
  return nullptr;
}

}  // namespace edgelstm

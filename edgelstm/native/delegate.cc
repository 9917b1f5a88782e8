// The delegate: finds the LSTM operators of a graph that the layers run, and puts them in their place.
//
// Runtimes load it by path (`load_delegate`): they call tflite_plugin_create_delegate.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/table.h"
#include "lstm_layer.h"
#include "lstm_operator.h"
#include "tflite_abi.h"

namespace edgelstm {
namespace {

constexpr char kName[] = "EdgeLSTM";

struct Delegate {
  TfLiteDelegate base;  // first: the runtime knows it by this address
  const Kernels* kernels;
};

// One LSTM operator in a prepared graph.
struct Partition {
  LstmOperator lstm;
  std::unique_ptr<LstmLayer> layer;
  LstmShape shape;
  bool prepared = false;
};

void* Init(TfLiteContext* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  const auto* delegate = static_cast<const Delegate*>(params->delegate->data);
  std::unique_ptr<Partition> partition(new (std::nothrow) Partition);
  if (partition == nullptr || params->nodes_to_replace->size != 1) return nullptr;
  if (ReadLstmOperator(context, params->nodes_to_replace->data[0], &partition->lstm) != nullptr) return nullptr;
  partition->layer = MakeLayer(*delegate->kernels, partition->lstm);
  return partition->layer == nullptr ? nullptr : partition.release();
}

void Free(TfLiteContext*, void* buffer) { delete static_cast<Partition*>(buffer); }

TfLiteStatus ResizeOutput(TfLiteContext* context, const LstmOperator& lstm, LstmShape shape) {
  TfLiteTensor* output = &context->tensors[lstm.output];
  auto* dims = static_cast<TfLiteIntArray*>(std::malloc(sizeof(TfLiteIntArray) + 3 * sizeof(int)));
  if (dims == nullptr) return kTfLiteError;
  dims->size = 3;
  dims->data[0] = lstm.time_major ? shape.time : shape.batch;
  dims->data[1] = lstm.time_major ? shape.batch : shape.time;
  dims->data[2] = lstm.units;
  return context->ResizeTensor(context, output, dims);  // which frees them
}

TfLiteStatus Prepare(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  if (partition == nullptr) {
    context->ReportError(context, "%s: there is not enough memory for the weights of an LSTM.", kName);
    return kTfLiteError;
  }
  partition->prepared = false;
  LstmShape shape;
  if (const char* problem = ReadLstmShape(context, partition->lstm, &shape)) {
    context->ReportError(context, "%s: %s.", kName, problem);
    return kTfLiteError;
  }
  if (const TfLiteStatus status = ResizeOutput(context, partition->lstm, shape); status != kTfLiteOk) return status;
  if (!partition->layer->Prepare(shape)) {
    context->ReportError(context, "%s: there is not enough memory for %d time steps of a batch of %d.", kName, shape.time,
                         shape.batch);
    return kTfLiteError;
  }
  partition->shape = shape;
  partition->prepared = true;
  return kTfLiteOk;
}

// Where a tensor's values lie, or null if there are fewer than these.
void* Data(const TfLiteContext* context, int index, size_t values, size_t size) {
  const TfLiteTensor& tensor = context->tensors[index];
  return tensor.bytes / size >= values ? tensor.data : nullptr;
}

TfLiteStatus Invoke(TfLiteContext* context, TfLiteNode* node) {
  auto* partition = static_cast<Partition*>(node->user_data);
  const LstmOperator& lstm = partition->lstm;
  if (!partition->prepared) return kTfLiteError;
  const bool integer = lstm.precision == Precision::kInteger;
  const size_t batch = partition->shape.batch, rows = batch * partition->shape.time, size = integer ? 1 : sizeof(float);
  void* input = Data(context, lstm.input, rows * lstm.features, size);
  void* output = Data(context, lstm.output, rows * lstm.units, size);
  void* hidden = Data(context, lstm.hidden_state, batch * lstm.units, size);
  void* cell = Data(context, lstm.cell_state, batch * lstm.units, integer ? sizeof(int16_t) : sizeof(float));
  if (rows > 0 && (input == nullptr || output == nullptr || hidden == nullptr || cell == nullptr)) {
    context->ReportError(context, "%s: a tensor of an LSTM has no memory of its size.", kName);
    return kTfLiteError;
  }
  if (rows > 0) partition->layer->Run(input, output, hidden, cell);
  return kTfLiteOk;
}

// Replaces one node. Each becomes a partition of its own, so that the runtime never makes one that cannot be run.
TfLiteStatus Take(TfLiteContext* context, TfLiteDelegate* delegate, int node_index) {
  TfLiteRegistration registration = {};
  registration.init = Init;
  registration.free = Free;
  registration.prepare = Prepare;
  registration.invoke = Invoke;
  registration.custom_name = kName;
  registration.version = 1;
  constexpr size_t kSize = sizeof(TfLiteIntArray) + sizeof(int);
  alignas(TfLiteIntArray) char memory[kSize];
  auto* nodes = reinterpret_cast<TfLiteIntArray*>(memory);
  nodes->size = 1;
  nodes->data[0] = node_index;
  return context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, nodes, delegate);
}

TfLiteStatus PrepareGraph(TfLiteContext* context, TfLiteDelegate* delegate) {
  TfLiteIntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return kTfLiteError;
  // Taking a node makes a new plan.
  const int count = plan->size;
  std::unique_ptr<int[]> nodes(new (std::nothrow) int[count > 0 ? count : 1]);
  if (nodes == nullptr) return kTfLiteError;
  std::memcpy(nodes.get(), plan->data, count * sizeof(int));
  for (int i = 0; i < count; ++i) {
    LstmOperator lstm;
    if (ReadLstmOperator(context, nodes[i], &lstm) != nullptr) continue;
    if (const TfLiteStatus status = Take(context, delegate, nodes[i]); status != kTfLiteOk) return status;
  }
  return kTfLiteOk;
}

}  // namespace
}  // namespace edgelstm

#define EDGELSTM_EXPORT extern "C" __attribute__((visibility("default")))

// Called by the runtime with the options of `load_delegate`, of which there are none.
// Returns null, after calling report_error, if this processor has no kernels.
EDGELSTM_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const*, const char* const*, size_t num_options,
                                                              void (*report_error)(const char*)) {
  using edgelstm::Delegate;
  const char* problem = nullptr;
  const edgelstm::Kernels* kernels = nullptr;
  if (num_options > 0) {
    problem = "the edgelstm delegate has no options: leave them out";
  } else {
    kernels = edgelstm::ChooseKernels(&problem);
    if (kernels == nullptr && problem == nullptr) problem = "the edgelstm delegate has no kernels for this processor";
  }
  auto* delegate = kernels == nullptr ? nullptr : new (std::nothrow) Delegate{};
  if (delegate == nullptr) {
    if (report_error != nullptr) report_error(problem != nullptr ? problem : "there is not enough memory");
    return nullptr;
  }
  delegate->kernels = kernels;
  delegate->base.data = delegate;
  delegate->base.Prepare = edgelstm::PrepareGraph;
  delegate->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  return &delegate->base;
}

EDGELSTM_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete static_cast<edgelstm::Delegate*>(delegate->data);
}

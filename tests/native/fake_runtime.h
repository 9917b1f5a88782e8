// As much of a runtime as a delegate sees: tensors, one LSTM operator, and what the context lets a delegate do.
#ifndef EDGELSTM_TESTS_NATIVE_FAKE_RUNTIME_H_
#define EDGELSTM_TESTS_NATIVE_FAKE_RUNTIME_H_

#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <vector>

#include "tflite_abi.h"

extern "C" TfLiteDelegate* tflite_plugin_create_delegate(const char* const*, const char* const*, size_t,
                                                         void (*)(const char*));
extern "C" void tflite_plugin_destroy_delegate(TfLiteDelegate*);

namespace edgelstm {

enum class Form { kFloat32, kFloat16, kHybrid, kInteger };

struct Sizes {
  int time, batch, features, units;
};

// An LSTM in a graph; everything of it may be changed before it is prepared. All memory is of exactly the size that the
// tensors say, so that a sanitizer sees every wrong read.
class FakeRuntime {
 public:
  FakeRuntime(Form form, Sizes sizes, unsigned seed) : form_(form), random_(seed) {
    context_.ReportError = Ignore;
    context_.impl = this;
    context_.GetExecutionPlan = [](TfLiteContext* context, TfLiteIntArray** plan) {
      *plan = Self(context)->plan_.get();
      return kTfLiteOk;
    };
    context_.GetNodeAndRegistration = [](TfLiteContext* context, int index, TfLiteNode** node,
                                         TfLiteRegistration** registration) {
      FakeRuntime* self = Self(context);
      if (index < 0 || index >= static_cast<int>(self->nodes_.size())) return kTfLiteError;
      *node = &self->nodes_[index];
      *registration = &self->registrations_[index];
      return kTfLiteOk;
    };
    context_.ReplaceNodeSubsetsWithDelegateKernels = [](TfLiteContext* context, TfLiteRegistration registration,
                                                        const TfLiteIntArray* nodes, TfLiteDelegate* delegate) {
      return Self(context)->Replace(registration, nodes, delegate);
    };
    context_.ResizeTensor = [](TfLiteContext* context, TfLiteTensor* tensor, TfLiteIntArray* dims) {
      return Self(context)->Resize(tensor, dims);
    };
    Build(sizes);
  }

  ~FakeRuntime() {
    for (Kernel& kernel : kernels_)
      if (kernel.registration.free != nullptr) kernel.registration.free(&context_, kernel.node->user_data);
    for (void* memory : memory_) std::free(memory);
  }

  // Applies a delegate, prepares what it took and runs that. Returns how many nodes it took, or -1 after an error.
  int Run(TfLiteDelegate* delegate, int calls) {
    if (delegate->Prepare(&context_, delegate) != kTfLiteOk) return -1;
    for (Kernel& kernel : kernels_)
      if (kernel.registration.prepare(&context_, kernel.node.get()) != kTfLiteOk) return -1;
    for (int call = 0; call < calls; ++call)
      if (!Invoke()) return -1;
    return static_cast<int>(kernels_.size());
  }

  bool Invoke() {
    for (Kernel& kernel : kernels_)
      if (kernel.registration.invoke(&context_, kernel.node.get()) != kTfLiteOk) return false;
    return true;
  }

  std::vector<TfLiteTensor>& tensors() { return tensors_; }
  TfLiteNode& lstm() { return nodes_.back(); }
  TfLiteUnidirectionalSequenceLSTMParams& parameters() { return parameters_; }
  TfLiteContext& context() { return context_; }

 private:
  struct Kernel {
    TfLiteRegistration registration;
    std::unique_ptr<TfLiteNode> node;
  };

  static void Ignore(TfLiteContext*, const char*, ...) {}

  static FakeRuntime* Self(TfLiteContext* context) { return static_cast<FakeRuntime*>(context->impl); }

  void* Allocate(size_t bytes) {
    memory_.push_back(std::malloc(bytes > 0 ? bytes : 1));
    std::memset(memory_.back(), 0, bytes);
    return memory_.back();
  }

  TfLiteIntArray* Ints(std::initializer_list<int> values) {
    auto* result = static_cast<TfLiteIntArray*>(Allocate(sizeof(TfLiteIntArray) + values.size() * sizeof(int)));
    result->size = 0;
    for (int value : values) result->data[result->size++] = value;
    return result;
  }

  static size_t SizeOf(TfLiteType type) {
    return type == kTfLiteInt8 ? 1 : type == kTfLiteFloat16 || type == kTfLiteInt16 ? 2 : 4;
  }

  int Add(TfLiteType type, std::initializer_list<int> dims, TfLiteAllocationType allocation, float scale = 0, int zero = 0) {
    TfLiteTensor tensor = {};
    tensor.type = type;
    tensor.dims = Ints(dims);
    tensor.allocation_type = allocation;
    tensor.params = {scale, zero};
    tensor.bytes = SizeOf(type);
    for (int size : dims) tensor.bytes *= size;
    tensor.data = Allocate(tensor.bytes);
    if (allocation == kTfLiteMmapRo) FillRandom(&tensor);
    if (scale != 0) {
      auto* quantization = static_cast<TfLiteAffineQuantization*>(Allocate(sizeof(TfLiteAffineQuantization)));
      quantization->scale = static_cast<TfLiteFloatArray*>(Allocate(sizeof(TfLiteFloatArray) + sizeof(float)));
      quantization->scale->size = 1;
      quantization->scale->data[0] = scale;
      quantization->zero_point = Ints({zero});
      tensor.quantization = {kTfLiteAffineQuantization, quantization};
    }
    tensors_.push_back(tensor);
    return static_cast<int>(tensors_.size()) - 1;
  }

  void FillRandom(TfLiteTensor* tensor) {
    std::uniform_int_distribution<int> byte(-127, 127);
    auto* bytes = static_cast<int8_t*>(tensor->data);
    if (tensor->type == kTfLiteInt8)
      for (size_t i = 0; i < tensor->bytes; ++i) bytes[i] = static_cast<int8_t>(byte(random_));
    if (tensor->type == kTfLiteFloat32)
      for (size_t i = 0; i < tensor->bytes / 4; ++i) static_cast<float*>(tensor->data)[i] = byte(random_) / 500.0f;
    if (tensor->type == kTfLiteFloat16)
      for (size_t i = 0; i < tensor->bytes / 2; ++i)
        static_cast<uint16_t*>(tensor->data)[i] = static_cast<uint16_t>(0x2800 + byte(random_));
  }

  void Build(Sizes s) {
    const bool integer = form_ == Form::kInteger;
    const TfLiteType activation = integer ? kTfLiteInt8 : kTfLiteFloat32;
    const float scale = integer ? 1.0f / 128 : 0;
    const int input = Add(activation, {s.batch, s.time, s.features}, kTfLiteArenaRw, scale);
    const int hidden = Add(activation, {s.batch, s.units}, kTfLiteArenaRwPersistent, scale, -3);
    const int cell = Add(integer ? kTfLiteInt16 : kTfLiteFloat32, {s.batch, s.units}, kTfLiteArenaRwPersistent,
                         integer ? 0x1p-12f : 0);
    tensors_[hidden].is_variable = tensors_[cell].is_variable = true;
    const int output = Add(activation, {s.batch, s.time, s.units}, kTfLiteArenaRw, scale, -3);
    auto* inputs = static_cast<TfLiteIntArray*>(Allocate(sizeof(TfLiteIntArray) + 24 * sizeof(int)));
    inputs->size = 24;
    for (int i = 0; i < 24; ++i) inputs->data[i] = -1;
    inputs->data[0] = input;
    inputs->data[18] = hidden;
    inputs->data[19] = cell;
    for (int gate = 0; gate < 4; ++gate) {
      inputs->data[1 + gate] = AddWeights({s.units, s.features});
      inputs->data[5 + gate] = AddWeights({s.units, s.units});
      inputs->data[12 + gate] =
          integer ? Add(kTfLiteInt32, {s.units}, kTfLiteMmapRo, 1e-4f) : AddFloats({s.units});
    }
    TfLiteNode node = {};
    node.inputs = inputs;
    node.outputs = Ints({output});
    node.temporaries = Ints({});
    node.intermediates = Ints({});
    if (integer) {
      const int gate = Add(kTfLiteInt16, {1}, kTfLiteMemNone, 0x1p-12f), last = Add(kTfLiteInt8, {1}, kTfLiteMemNone, scale, -3);
      node.intermediates = Ints({gate, gate, gate, gate, last});
    }
    parameters_ = {kTfLiteActTanh, 10.0f, 0, false, true, false};
    node.builtin_data = &parameters_;
    nodes_.push_back(node);
    TfLiteRegistration registration = {};
    registration.builtin_code = kTfLiteBuiltinUnidirectionalSequenceLstm;
    registrations_.push_back(registration);
    plan_.reset(static_cast<TfLiteIntArray*>(std::calloc(1, sizeof(TfLiteIntArray) + nodes_.size() * sizeof(int))));
    plan_->size = static_cast<int>(nodes_.size());
    for (int i = 0; i < plan_->size; ++i) plan_->data[i] = i;
    context_.tensors = tensors_.data();
    context_.tensors_size = tensors_.size();
  }

  int AddWeights(std::initializer_list<int> dims) {
    if (form_ == Form::kHybrid || form_ == Form::kInteger) return Add(kTfLiteInt8, dims, kTfLiteMmapRo, 0.004f);
    return AddFloats(dims);
  }

  // A constant, or a float16 constant and what a DEQUANTIZE makes of it.
  int AddFloats(std::initializer_list<int> dims) {
    if (form_ != Form::kFloat16) return Add(kTfLiteFloat32, dims, kTfLiteMmapRo);
    const int half = Add(kTfLiteFloat16, dims, kTfLiteMmapRo), whole = Add(kTfLiteFloat32, dims, kTfLiteArenaRwPersistent);
    TfLiteNode node = {};
    node.inputs = Ints({half});
    node.outputs = Ints({whole});
    nodes_.push_back(node);
    TfLiteRegistration registration = {};
    registration.builtin_code = kTfLiteBuiltinDequantize;
    registrations_.push_back(registration);
    return whole;
  }

  TfLiteStatus Replace(TfLiteRegistration registration, const TfLiteIntArray* nodes, TfLiteDelegate* delegate) {
    TfLiteDelegateParams params = {};
    params.delegate = delegate;
    params.nodes_to_replace = const_cast<TfLiteIntArray*>(nodes);
    Kernel kernel = {registration, std::make_unique<TfLiteNode>()};
    kernel.node->user_data = registration.init(&context_, reinterpret_cast<const char*>(&params), sizeof params);
    kernels_.push_back(std::move(kernel));
    return kTfLiteOk;
  }

  TfLiteStatus Resize(TfLiteTensor* tensor, TfLiteIntArray* dims) {
    size_t bytes = SizeOf(tensor->type);
    bool fits = true;
    for (int i = 0; i < dims->size; ++i)
      fits &= dims->data[i] >= 0 && !__builtin_mul_overflow(bytes, static_cast<size_t>(dims->data[i]), &bytes);
    std::free(dims);  // its sizes do not matter here: the memory does
    if (!fits || bytes > size_t{1} << 32) return kTfLiteError;
    tensor->bytes = bytes;
    tensor->data = Allocate(bytes);
    return kTfLiteOk;
  }

  struct Freed {
    void operator()(void* memory) const { std::free(memory); }
  };

  Form form_;
  std::mt19937 random_;
  TfLiteContext context_ = {};
  std::vector<void*> memory_;
  std::vector<TfLiteTensor> tensors_;
  std::vector<TfLiteNode> nodes_;
  std::vector<TfLiteRegistration> registrations_;
  std::unique_ptr<TfLiteIntArray, Freed> plan_;
  std::vector<Kernel> kernels_;
  TfLiteUnidirectionalSequenceLSTMParams parameters_ = {};
};

}  // namespace edgelstm

#endif  // EDGELSTM_TESTS_NATIVE_FAKE_RUNTIME_H_

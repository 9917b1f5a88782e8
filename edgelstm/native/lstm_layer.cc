#include "lstm_layer.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "buffer.h"
#include "half.h"

namespace edgelstm {
namespace {

float ValueOf(const TfLiteTensor& tensor, ptrdiff_t i) {
  if (tensor.type == kTfLiteFloat32) return static_cast<const float*>(tensor.data)[i];
  return FloatOfHalf(static_cast<const uint16_t*>(tensor.data)[i]);
}

// Sizes and strides that all precisions share. `gates` holds the input side of as many time steps as stay in the cache
// between the two sides.
class Layout {
 public:
  Layout(const Kernels& kernels, const LstmOperator& lstm)
      : width(kernels.width),
        units(lstm.units),
        features(lstm.features),
        blocks((lstm.units + kernels.width - 1) / kernels.width),
        padded(static_cast<ptrdiff_t>(blocks) * kernels.width),
        row(padded * kNumGates),
        time_major(lstm.time_major) {}

  void SetShape(LstmShape new_shape) {
    constexpr ptrdiff_t kBytesOfGates = 128 << 10, kFewestRows = 24;
    shape = new_shape;
    const ptrdiff_t batch = std::max(shape.batch, 1);
    const ptrdiff_t most = kBytesOfGates / static_cast<ptrdiff_t>(sizeof(float)) / (row * batch);
    const ptrdiff_t least = (kFewestRows + batch - 1) / batch;
    chunk = static_cast<int>(std::min<ptrdiff_t>(std::max(most, least), std::max(shape.time, 1)));
  }

  // Where a value of a gate stands: [block][gate][width].
  ptrdiff_t GatePlace(int unit, int gate) const {
    return (unit / width * kNumGates + gate) * static_cast<ptrdiff_t>(width) + unit % width;
  }
  ptrdiff_t TimeStride(int values) const { return static_cast<ptrdiff_t>(values) * (time_major ? shape.batch : 1); }
  ptrdiff_t BatchStride(int values) const { return static_cast<ptrdiff_t>(values) * (time_major ? 1 : shape.time); }

  size_t ChunkRows() const { return static_cast<size_t>(chunk) * shape.batch; }

  // How many time steps from this one are run at once: 0 when none are left.
  int ChunkAt(int start) const { return shape.batch > 0 ? std::min(chunk, shape.time - start) : 0; }

  // Calls run(x, rows, stride of x, first row of gates, their stride) so that it covers `time` steps from `start` in few
  // calls of many rows: over the time of each sequence, or over the batch of each step.
  template <class T, class Function>
  void ForRows(const T* x, int start, int time, int values, Function run) const {
    const ptrdiff_t time_stride = TimeStride(values), batch_stride = BatchStride(values);
    x += start * time_stride;
    if (time_stride == batch_stride * shape.batch) {
      run(x, time * shape.batch, batch_stride, 0, 1);
    } else if (time >= shape.batch) {
      for (int b = 0; b < shape.batch; ++b) run(x + b * batch_stride, time, time_stride, b, shape.batch);
    } else {
      for (int t = 0; t < time; ++t) run(x + t * time_stride, shape.batch, batch_stride, t * shape.batch, 1);
    }
  }

  int width, units, features, blocks;
  ptrdiff_t padded;  // units of whole blocks
  ptrdiff_t row;     // values of a row of gates
  bool time_major;
  LstmShape shape = {0, 0};
  int chunk = 1;  // time steps of the input side at once
};

void CopyRows(void* to, ptrdiff_t to_stride, const void* from, ptrdiff_t from_stride, int rows, size_t bytes) {
  for (int i = 0; i < rows; ++i)
    std::memcpy(static_cast<char*>(to) + i * to_stride, static_cast<const char*>(from) + i * from_stride, bytes);
}

// States of whole blocks; what stands behind the units has to be zeros again, whatever a call before this has left there.
template <class T>
void LoadState(const Layout& l, const void* state, T* padded) {
  std::memset(padded, 0, l.padded * l.shape.batch * sizeof(T));
  CopyRows(padded, l.padded * sizeof(T), state, l.units * sizeof(T), l.shape.batch, l.units * sizeof(T));
}

template <class T>
void StoreState(const Layout& l, const T* padded, void* state) {
  CopyRows(state, l.units * sizeof(T), padded, l.padded * sizeof(T), l.shape.batch, l.units * sizeof(T));
}

// What all precisions do: the input side of a chunk of time steps, then its recurrent side, chunk by chunk.
// T is the type of inputs and outputs, Cell that of the cell state.
template <class T, class Cell>
class ChunkedLayer : public LstmLayer {
 public:
  ChunkedLayer(const Kernels& kernels, const LstmOperator& lstm) : kernels_(kernels), layout_(kernels, lstm) {}

  bool Prepare(LstmShape shape) final {
    layout_.SetShape(shape);
    return gates_.Resize(layout_.row * layout_.ChunkRows()) && cell_.Resize(layout_.padded * shape.batch) &&
           PrepareBuffers();
  }

  void Run(const void* input, void* output, void* hidden_state, void* cell_state) final {
    const Layout& l = layout_;
    LoadHidden(static_cast<const T*>(hidden_state));
    LoadState(l, cell_state, cell_.data());
    for (int start = 0, time; (time = l.ChunkAt(start)) > 0; start += time) {
      l.ForRows(static_cast<const T*>(input), start, time, l.features,
                [&](const T* x, int rows, ptrdiff_t stride, int first, int step) {
                  MakeRows(x, stride, rows, gates_.data() + first * l.row, step * l.row);
                });
      RunSteps(time, static_cast<T*>(output) + start * l.TimeStride(l.units));
    }
    StoreHidden(static_cast<T*>(hidden_state), static_cast<const T*>(output));
    StoreState(l, cell_.data(), cell_state);
  }

 protected:
  virtual bool PrepareBuffers() = 0;
  // The input side of some rows.
  virtual void MakeRows(const T* x, ptrdiff_t x_stride, int rows, float* gates, ptrdiff_t gates_stride) = 0;
  // The recurrent side of the chunk in gates_.
  virtual void RunSteps(int time, T* output) = 0;
  virtual void LoadHidden(const T* state) = 0;
  virtual void StoreHidden(T* state, const T* output) = 0;

  template <class Kind>
  void Fill(Kind* s, int time, T* output) {
    const Layout& l = layout_;
    s->time = time;
    s->batch = l.shape.batch;
    s->units = l.units;
    s->blocks = l.blocks;
    s->gates = gates_.data();
    s->gates_time_stride = l.row * l.shape.batch;
    s->gates_batch_stride = l.row;
    s->output_time_stride = l.TimeStride(l.units);
    s->output_batch_stride = l.BatchStride(l.units);
    s->output = output;
    s->cell = cell_.data();
  }

  const Kernels& kernels_;
  Layout layout_;

 private:
  Buffer<float> gates_;
  Buffer<Cell> cell_;
};

class Float32Layer : public ChunkedLayer<float, float> {
 public:
  Float32Layer(const Kernels& kernels, const LstmOperator& lstm)
      : ChunkedLayer(kernels, lstm), cell_clip_(lstm.cell_clip) {}

  bool Pack(const LstmOperator& lstm) {
    const Layout& l = layout_;
    if (!input_weights_.Resize(l.row * l.features) || !weights_.Resize(l.row * l.units) || !bias_.Resize(l.row))
      return false;
    for (int gate = 0; gate < kNumGates; ++gate) {
      PackMatrix(*lstm.input_weights[gate], l.features, gate, input_weights_.data());
      PackMatrix(*lstm.recurrent_weights[gate], l.units, gate, weights_.data());
      for (int unit = 0; unit < l.units; ++unit) bias_[l.GatePlace(unit, gate)] = ValueOf(*lstm.bias[gate], unit);
    }
    return true;
  }

 protected:
  bool PrepareBuffers() override {
    const size_t values = layout_.padded * layout_.shape.batch;
    return hidden_[0].Resize(values) && hidden_[1].Resize(values);
  }

  void MakeRows(const float* x, ptrdiff_t x_stride, int rows, float* gates, ptrdiff_t gates_stride) override {
    const Layout& l = layout_;
    kernels_.input_f32(
        {rows, l.features, l.blocks, x, x_stride, input_weights_.data(), bias_.data(), gates, gates_stride});
  }

  void RunSteps(int time, float* output) override {
    SequenceF32 s;
    Fill(&s, time, output);
    s.weights = weights_.data();
    s.hidden[0] = hidden_[last_].data();
    s.hidden[1] = hidden_[1 - last_].data();
    s.cell_clip = cell_clip_;
    kernels_.sequence_f32(s);
    last_ = (last_ + time) % 2;
  }

  void LoadHidden(const float* state) override {
    last_ = 0;
    LoadState(layout_, state, hidden_[0].data());
  }

  void StoreHidden(float* state, const float*) override { StoreState(layout_, hidden_[last_].data(), state); }

 private:
  void PackMatrix(const TfLiteTensor& matrix, int depth, int gate, float* packed) const {
    const Layout& l = layout_;
    for (int unit = 0; unit < l.units; ++unit)
      for (int k = 0; k < depth; ++k)
        packed[((static_cast<ptrdiff_t>(unit / l.width) * depth + k) * kNumGates + gate) * l.width + unit % l.width] =
            ValueOf(matrix, static_cast<ptrdiff_t>(unit) * depth + k);
  }

  float cell_clip_;
  int last_ = 0;  // which of the two holds the state
  Buffer<float> input_weights_, weights_, bias_, hidden_[2];
};

// Bytes of a vector in words. Vectors are written a block of values at a time and read a word at a time.
ptrdiff_t WordsStride(const Kernels& kernels, const Layout& l, int values) {
  const int word_values = kernels.groups * kernels.group, value_bytes = kernels.word_bytes / word_values;
  const ptrdiff_t blocks = (values + l.width - 1) / l.width * static_cast<ptrdiff_t>(l.width) * value_bytes;
  return std::max(blocks, (values + word_values - 1) / word_values * static_cast<ptrdiff_t>(kernels.word_bytes));
}

// A matrix of int8 weights with what belongs to it.
class PackedInt8 {
 public:
  bool Pack(const Kernels& kernels, const Layout& l, const TfLiteTensor* const (&matrices)[kNumGates], int depth) {
    const int group = kernels.group, word_values = kernels.groups * group, run = l.width * word_values;
    words_ = (depth + word_values - 1) / word_values;
    if (!values_.Resize(static_cast<size_t>(l.blocks) * words_ * kNumGates * run) || !sums_.Resize(l.row) ||
        !scale_.Resize(l.row))
      return false;
    for (int gate = 0; gate < kNumGates; ++gate)
      for (int unit = 0; unit < l.units; ++unit) {
        const int8_t* from = static_cast<const int8_t*>(matrices[gate]->data) + static_cast<ptrdiff_t>(unit) * depth;
        const ptrdiff_t place = l.GatePlace(unit, gate);
        scale_[place] = matrices[gate]->params.scale;
        for (int k = 0; k < depth; ++k) {
          const ptrdiff_t word = static_cast<ptrdiff_t>(unit / l.width) * words_ + k / word_values;
          const int in_word = k % word_values / group * l.width * group + unit % l.width * group + k % group;
          values_[(word * kNumGates + gate) * run + in_word] = from[k];
          sums_[place] += from[k];
        }
      }
    return true;
  }

  Int8Weights view() const { return {words_, values_.data(), sums_.data(), scale_.data()}; }
  int32_t sum(ptrdiff_t place) const { return sums_.data()[place]; }
  float& scale(ptrdiff_t place) { return scale_[place]; }

 private:
  int words_ = 0;
  Buffer<int8_t> values_;
  Buffer<int32_t> sums_;
  Buffer<float> scale_;
};

class HybridLayer : public ChunkedLayer<float, float> {
 public:
  HybridLayer(const Kernels& kernels, const LstmOperator& lstm)
      : ChunkedLayer(kernels, lstm), cell_clip_(lstm.cell_clip), asymmetric_(lstm.asymmetric) {}

  bool Pack(const LstmOperator& lstm) {
    const Layout& l = layout_;
    if (!input_weights_.Pack(kernels_, l, lstm.input_weights, l.features) ||
        !weights_.Pack(kernels_, l, lstm.recurrent_weights, l.units) || !bias_.Resize(l.row))
      return false;
    for (int gate = 0; gate < kNumGates; ++gate)
      for (int unit = 0; unit < l.units; ++unit) bias_[l.GatePlace(unit, gate)] = ValueOf(*lstm.bias[gate], unit);
    return true;
  }

 protected:
  bool PrepareBuffers() override {
    const Layout& l = layout_;
    const size_t batch = l.shape.batch, rows = l.ChunkRows();
    input_stride_ = WordsStride(kernels_, l, l.features);
    hidden_stride_ = WordsStride(kernels_, l, l.units);
    return hidden_.Resize(l.padded * batch) && hidden_in_words_.Resize(hidden_stride_ * batch) &&
           row_scales_.Resize(batch) && input_in_words_.Resize(input_stride_ * rows) && input_scales_.Resize(rows);
  }

  void MakeRows(const float* x, ptrdiff_t x_stride, int rows, float* gates, ptrdiff_t gates_stride) override {
    const Layout& l = layout_;
    kernels_.quantize_rows(
        {rows, l.features, asymmetric_, x, x_stride, input_in_words_.data(), input_stride_, input_scales_.data()});
    kernels_.input_hybrid({rows, l.blocks, input_in_words_.data(), input_stride_, input_scales_.data(),
                           input_weights_.view(), bias_.data(), gates, gates_stride});
  }

  void RunSteps(int time, float* output) override {
    SequenceHybrid s;
    Fill(&s, time, output);
    s.weights = weights_.view();
    s.hidden = hidden_.data();
    s.words = hidden_in_words_.data();
    s.words_stride = hidden_stride_;
    s.row_scales = row_scales_.data();
    s.cell_clip = cell_clip_;
    s.asymmetric = asymmetric_;
    kernels_.sequence_hybrid(s);
  }

  void LoadHidden(const float* state) override { LoadState(layout_, state, hidden_.data()); }
  void StoreHidden(float* state, const float*) override { StoreState(layout_, hidden_.data(), state); }

 private:
  float cell_clip_;
  bool asymmetric_;
  ptrdiff_t input_stride_ = 0, hidden_stride_ = 0;
  PackedInt8 input_weights_, weights_;
  Buffer<float> bias_, hidden_;
  Buffer<Words> hidden_in_words_, input_in_words_;
  Buffer<RowScale> row_scales_, input_scales_;
};

class IntegerLayer : public ChunkedLayer<int8_t, int16_t> {
 public:
  IntegerLayer(const Kernels& kernels, const LstmOperator& lstm)
      : ChunkedLayer(kernels, lstm),
        cell_unit_(lstm.cell_unit),
        // As the stock kernel quantizes it: towards zero, within int16.
        cell_clip_(static_cast<float>(static_cast<int>(std::min(lstm.cell_clip / lstm.cell_unit, 32767.0f)))),
        hidden_scale_(0x1p-30f / lstm.hidden_params.scale),
        hidden_zero_point_(static_cast<float>(lstm.hidden_params.zero_point)) {}

  bool Pack(const LstmOperator& lstm) {
    const Layout& l = layout_;
    if (!input_weights_.Pack(kernels_, l, lstm.input_weights, l.features) ||
        !weights_.Pack(kernels_, l, lstm.recurrent_weights, l.units) || !input_bias_.Resize(l.row) ||
        !bias_.Resize(l.row))
      return false;
    for (int gate = 0; gate < kNumGates; ++gate)
      for (int unit = 0; unit < l.units; ++unit) {
        const ptrdiff_t place = l.GatePlace(unit, gate);
        const int input_zero = lstm.input_params.zero_point + kernels_.int8_offset;
        const int state_zero = lstm.state_params.zero_point + kernels_.int8_offset;
        input_bias_[place] =
            static_cast<const int32_t*>(lstm.bias[gate]->data)[unit] - input_zero * input_weights_.sum(place);
        bias_[place] = -state_zero * weights_.sum(place);
        input_weights_.scale(place) *= lstm.input_params.scale * 0x1p12f;
        weights_.scale(place) *= lstm.state_params.scale * 0x1p12f;
      }
    return true;
  }

 protected:
  bool PrepareBuffers() override {
    const Layout& l = layout_;
    input_stride_ = WordsStride(kernels_, l, l.features);
    hidden_stride_ = WordsStride(kernels_, l, l.units);
    const size_t hidden = hidden_stride_ * l.shape.batch;
    return input_in_words_.Resize(input_stride_ * l.ChunkRows()) && hidden_[0].Resize(hidden) &&
           hidden_[1].Resize(hidden);
  }

  void MakeRows(const int8_t* x, ptrdiff_t x_stride, int rows, float* gates, ptrdiff_t gates_stride) override {
    const Layout& l = layout_;
    kernels_.pack_int8({rows, l.features, x, x_stride, input_in_words_.data(), input_stride_});
    kernels_.input_int8({rows, l.blocks, input_in_words_.data(), input_stride_, input_weights_.view(),
                         input_bias_.data(), gates, gates_stride});
  }

  void RunSteps(int time, int8_t* output) override {
    SequenceInt8 s;
    Fill(&s, time, output);
    s.weights = weights_.view();
    s.bias = bias_.data();
    s.hidden[0] = hidden_[last_].data();
    s.hidden[1] = hidden_[1 - last_].data();
    s.hidden_stride = hidden_stride_;
    s.cell_unit = cell_unit_;
    s.cell_clip = cell_clip_;
    s.hidden_scale = hidden_scale_;
    s.hidden_zero_point = hidden_zero_point_;
    kernels_.sequence_int8(s);
    last_ = (last_ + time) % 2;
  }

  void LoadHidden(const int8_t* state) override {
    const Layout& l = layout_;
    last_ = 0;
    kernels_.pack_int8({l.shape.batch, l.units, state, l.units, hidden_[0].data(), hidden_stride_});
  }

  // The last output is the hidden state.
  void StoreHidden(int8_t* state, const int8_t* output) override {
    const Layout& l = layout_;
    if (l.shape.time == 0 || l.shape.batch == 0) return;
    CopyRows(state, l.units, output + (l.shape.time - 1) * l.TimeStride(l.units), l.BatchStride(l.units), l.shape.batch,
             l.units);
  }

 private:
  float cell_unit_, cell_clip_, hidden_scale_, hidden_zero_point_;
  int last_ = 0;
  ptrdiff_t input_stride_ = 0, hidden_stride_ = 0;
  PackedInt8 input_weights_, weights_;
  Buffer<int32_t> input_bias_, bias_;
  Buffer<Words> input_in_words_, hidden_[2];
};

template <class Layer>
std::unique_ptr<LstmLayer> Make(const Kernels& kernels, const LstmOperator& lstm) {
  std::unique_ptr<Layer> layer(new (std::nothrow) Layer(kernels, lstm));
  if (layer == nullptr || !layer->Pack(lstm)) return nullptr;
  return layer;
}

}  // namespace

std::unique_ptr<LstmLayer> MakeLayer(const Kernels& kernels, const LstmOperator& lstm) {
  switch (lstm.precision) {
    case Precision::kFloat32:
      return Make<Float32Layer>(kernels, lstm);
    case Precision::kHybrid:
      return Make<HybridLayer>(kernels, lstm);
    case Precision::kInteger:
      return Make<IntegerLayer>(kernels, lstm);
  }
  return nullptr;
}

}  // namespace edgelstm

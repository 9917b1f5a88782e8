// The plain kernels that all others are held to: one unit and one value at a time, with the functions of the C library.
#include <cmath>

#include "kernels.h"

namespace edgelstm {
namespace {

float Sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

float Clip(float x, float limit) { return x > limit ? limit : x < -limit ? -limit : x; }

float Clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

float Saturate(float x) { return Clamp(x, -32768, 32767); }

void InputSide(const InputF32& s) {
  for (int r = 0; r < s.rows; ++r)
    for (int unit = 0; unit < s.blocks; ++unit)
      for (int gate = 0; gate < kNumGates; ++gate) {
        float sum = s.bias[unit * kNumGates + gate];
        for (int k = 0; k < s.features; ++k)
          sum += s.x[r * s.x_stride + k] * s.weights[(static_cast<ptrdiff_t>(unit) * s.features + k) * kNumGates + gate];
        s.gates[r * s.gates_stride + unit * kNumGates + gate] = sum;
      }
}

float FinishStep(const float* gates, float* cell, float cell_clip) {
  float c = Sigmoid(gates[kForgetGate]) * *cell + Sigmoid(gates[kInputGate]) * std::tanh(gates[kCellGate]);
  if (cell_clip > 0) c = Clip(c, cell_clip);
  *cell = c;
  return Sigmoid(gates[kOutputGate]) * std::tanh(c);
}

void RunF32(const SequenceF32& s) {
  for (int t = 0; t < s.time; ++t)
    for (int row = 0; row < s.batch; ++row)
      for (int unit = 0; unit < s.blocks; ++unit) {
        const float* hidden = s.hidden[t % 2] + row * s.blocks;
        const float* gates = s.gates + t * s.gates_time_stride + row * s.gates_batch_stride + unit * kNumGates;
        float sums[kNumGates];
        for (int gate = 0; gate < kNumGates; ++gate) {
          sums[gate] = gates[gate];
          for (int k = 0; k < s.units; ++k)
            sums[gate] += hidden[k] * s.weights[(static_cast<ptrdiff_t>(unit) * s.units + k) * kNumGates + gate];
        }
        const float h = FinishStep(sums, s.cell + row * s.blocks + unit, s.cell_clip);
        s.hidden[(t + 1) % 2][row * s.blocks + unit] = h;
        s.output[t * s.output_time_stride + row * s.output_batch_stride + unit] = h;
      }
}

// The stock runtime's `PortableSymmetricQuantizeFloats` and `PortableAsymmetricQuantizeFloats`.
RowScale QuantizeRow(const float* x, int count, bool asymmetric, Words* bytes) {
  float low = 0, high = 0;
  for (int i = 0; i < count; ++i) {
    low = std::fmin(low, x[i]);
    high = std::fmax(high, x[i]);
  }
  const float range = std::fmax(-low, high);
  RowScale row = {1, 0};
  float inverse = 0;
  if (range > 0 && !asymmetric) {
    row.scale = range / 127;
    inverse = 127 / range;
  } else if (range > 0) {
    const double scale = (static_cast<double>(high) - low) / 255;
    const double from_low = low / scale, from_high = high / scale;
    const double zero = 128 - from_low < 127 + from_high ? -128 - from_low : 127 - from_high;
    row = {static_cast<float>(scale), static_cast<int>(std::round(std::fmin(std::fmax(zero, -128), 127)))};
    inverse = 1 / row.scale;
  }
  auto* words = reinterpret_cast<int32_t*>(bytes);
  for (int i = 0; i < count; ++i) {
    const float value = std::round(static_cast<float>(row.zero_point) + x[i] * inverse);
    words[i] = static_cast<int32_t>(Clamp(value, asymmetric ? -128 : -127, 127));
  }
  return row;
}

void QuantizeAll(const QuantizeRows& s) {
  for (int r = 0; r < s.rows; ++r)
    s.row_scales[r] = QuantizeRow(s.x + r * s.x_stride, s.features, s.asymmetric, s.words + r * s.words_stride);
}

void Pack(const PackInt8& s) {
  for (int r = 0; r < s.rows; ++r)
    for (int k = 0; k < s.features; ++k)
      reinterpret_cast<int32_t*>(s.words + r * s.words_stride)[k] = s.x[r * s.x_stride + k];
}

int32_t Product(const Int8Weights& weights, const Words* x, int unit, int gate) {
  const auto* words = reinterpret_cast<const int32_t*>(x);
  int32_t sum = 0;
  for (int k = 0; k < weights.words; ++k)
    sum += words[k] * weights.values[(static_cast<ptrdiff_t>(unit) * weights.words + k) * kNumGates + gate];
  return sum;
}

float HybridProduct(const Int8Weights& weights, const Words* x, RowScale row, int unit, int gate) {
  const int place = unit * kNumGates + gate;
  const int32_t sum = Product(weights, x, unit, gate) - row.zero_point * weights.sums[place];
  return static_cast<float>(sum) * (row.scale * weights.scale[place]);
}

void InputSide(const InputHybrid& s) {
  for (int r = 0; r < s.rows; ++r)
    for (int unit = 0; unit < s.blocks; ++unit)
      for (int gate = 0; gate < kNumGates; ++gate)
        s.gates[r * s.gates_stride + unit * kNumGates + gate] =
            s.bias[unit * kNumGates + gate] +
            HybridProduct(s.weights, s.x + r * s.x_stride, s.row_scales[r], unit, gate);
}

void RunHybrid(const SequenceHybrid& s) {
  for (int t = 0; t < s.time; ++t)
    for (int row = 0; row < s.batch; ++row) {
      float* hidden = s.hidden + row * s.blocks;
      Words* words = s.words + row * s.words_stride;
      s.row_scales[row] = QuantizeRow(hidden, s.blocks, s.asymmetric, words);
      for (int unit = 0; unit < s.blocks; ++unit) {
        const float* gates = s.gates + t * s.gates_time_stride + row * s.gates_batch_stride + unit * kNumGates;
        float sums[kNumGates];
        for (int gate = 0; gate < kNumGates; ++gate)
          sums[gate] = gates[gate] + HybridProduct(s.weights, words, s.row_scales[row], unit, gate);
        hidden[unit] = FinishStep(sums, s.cell + row * s.blocks + unit, s.cell_clip);
        s.output[t * s.output_time_stride + row * s.output_batch_stride + unit] = hidden[unit];
      }
    }
}

float Requantize(const Int8Weights& weights, const Words* x, const int32_t* bias, int unit, int gate) {
  const int place = unit * kNumGates + gate;
  return std::round(static_cast<float>(Product(weights, x, unit, gate) + bias[place]) * weights.scale[place]);
}

void InputSide(const InputInt8& s) {
  for (int r = 0; r < s.rows; ++r)
    for (int unit = 0; unit < s.blocks; ++unit)
      for (int gate = 0; gate < kNumGates; ++gate)
        s.gates[r * s.gates_stride + unit * kNumGates + gate] =
            Saturate(Requantize(s.weights, s.x + r * s.x_stride, s.bias, unit, gate));
}

// To units of 2^-15.
float Fraction(float x) { return std::fmin(std::round(x * 32768), 32767); }

void RunInt8(const SequenceInt8& s) {
  for (int t = 0; t < s.time; ++t)
    for (int row = 0; row < s.batch; ++row)
      for (int unit = 0; unit < s.blocks; ++unit) {
        const Words* hidden = s.hidden[t % 2] + row * s.hidden_stride;
        const float* gates = s.gates + t * s.gates_time_stride + row * s.gates_batch_stride + unit * kNumGates;
        float sums[kNumGates];
        for (int gate = 0; gate < kNumGates; ++gate)
          sums[gate] = Saturate(gates[gate] + Requantize(s.weights, hidden, s.bias, unit, gate)) / 4096;
        const float i = Fraction(Sigmoid(sums[kInputGate])), f = Fraction(Sigmoid(sums[kForgetGate]));
        const float g = Fraction(std::tanh(sums[kCellGate])), o = Fraction(Sigmoid(sums[kOutputGate]));
        int16_t* cell = s.cell + row * s.blocks + unit;
        const float kept = std::round(f * static_cast<float>(*cell) / 32768);
        float c = Saturate(kept + std::round(i * g * (0x1p-30f / s.cell_unit)));
        if (s.cell_clip > 0) c = Clip(c, s.cell_clip);
        *cell = static_cast<int16_t>(c);
        const float h = std::round(o * Fraction(std::tanh(c * s.cell_unit)) * s.hidden_scale) + s.hidden_zero_point;
        const int8_t value = static_cast<int8_t>(Clamp(h, -128, 127));
        reinterpret_cast<int32_t*>(s.hidden[(t + 1) % 2] + row * s.hidden_stride)[unit] = value;
        s.output[t * s.output_time_stride + row * s.output_batch_stride + unit] = value;
      }
}

}  // namespace

extern const Kernels kReferenceKernels;
const Kernels kReferenceKernels = {"reference", 1, 4, 1, 1, 0, InputSide, RunF32,
                                   QuantizeAll, InputSide, RunHybrid, Pack, InputSide, RunInt8};

}  // namespace edgelstm

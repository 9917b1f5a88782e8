// Every kernel of the table against the plain ones, as layers: the same operator is packed and run for both.
//
//   layers_test [NAME…]     tests these kernels, or all that this processor can run
//
// Prints a line for each case that differs and ends with 1 if there is one.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "lstm_layer.h"

namespace edgelstm {
namespace {

struct Case {
  Precision precision;
  int units, features, time, batch;
  bool time_major, asymmetric;
  float cell_clip;
};

// An operator whose tensors live here.
class Operator {
 public:
  Operator(const Case& c, unsigned seed) : random_(seed) {
    lstm_ = {};
    lstm_.precision = c.precision;
    lstm_.units = c.units;
    lstm_.features = c.features;
    lstm_.time_major = c.time_major;
    lstm_.asymmetric = c.asymmetric;
    lstm_.cell_clip = c.cell_clip;
    lstm_.input_params = {0.02f, 7};
    lstm_.state_params = {1.0f / 128, -3};
    lstm_.hidden_params = lstm_.state_params;
    lstm_.cell_unit = 0x1p-11f;
    for (int gate = 0; gate < kNumGates; ++gate) {
      lstm_.input_weights[gate] = Matrix(c, c.features, gate);
      lstm_.recurrent_weights[gate] = Matrix(c, c.units, gate);
      lstm_.bias[gate] = Bias(c, gate);
    }
  }

  const LstmOperator& get() const { return lstm_; }

 private:
  // Gates of different sizes of weights, so that swapped ones are seen.
  const TfLiteTensor* Matrix(const Case& c, int depth, int gate) {
    const float range = (1 + 0.2f * gate) / std::sqrt(static_cast<float>(depth));
    const size_t count = static_cast<size_t>(c.units) * depth;
    if (c.precision == Precision::kFloat32) return Floats(count, range);
    std::uniform_int_distribution<int> weight(-127, 127);
    bytes_.emplace_back(new std::vector<int8_t>(count));
    for (int8_t& value : *bytes_.back()) value = static_cast<int8_t>(weight(random_));
    return Add(bytes_.back()->data(), range / 127);
  }

  const TfLiteTensor* Bias(const Case& c, int gate) {
    if (c.precision != Precision::kInteger) return Floats(c.units, 0.3f + 0.1f * gate);
    std::uniform_int_distribution<int> value(-1500, 1500);
    ints_.emplace_back(new std::vector<int32_t>(c.units));
    for (int32_t& bias : *ints_.back()) bias = value(random_);
    return Add(ints_.back()->data(), 0);
  }

  const TfLiteTensor* Floats(size_t count, float range) {
    std::uniform_real_distribution<float> value(-range, range);
    floats_.emplace_back(new std::vector<float>(count));
    for (float& x : *floats_.back()) x = value(random_);
    return Add(floats_.back()->data(), 0);
  }

  const TfLiteTensor* Add(void* data, float scale) {
    tensors_.emplace_back(new TfLiteTensor{});
    tensors_.back()->type = kTfLiteFloat32;
    tensors_.back()->data = data;
    tensors_.back()->params = {scale, 0};
    return tensors_.back().get();
  }

  std::mt19937 random_;
  LstmOperator lstm_;
  std::vector<std::unique_ptr<TfLiteTensor>> tensors_;
  std::vector<std::unique_ptr<std::vector<float>>> floats_;
  std::vector<std::unique_ptr<std::vector<int8_t>>> bytes_;
  std::vector<std::unique_ptr<std::vector<int32_t>>> ints_;
};

// Everything a layer leaves behind, two runs in a row: the second goes on from the first one's states.
template <class T, class Cell>
std::vector<float> Answers(const Kernels& kernels, const Operator& lstm, const Case& c, const std::vector<T>& input) {
  const size_t outputs = static_cast<size_t>(c.time) * c.batch * c.units, states = static_cast<size_t>(c.batch) * c.units;
  std::vector<T> output(outputs), hidden(states);
  std::vector<Cell> cell(states);
  for (size_t i = 0; i < states; ++i) {
    hidden[i] = static_cast<T>(static_cast<int>(i * 37 % 101 - 50) / (sizeof(T) == 4 ? 50.0f : 1.0f));
    cell[i] = static_cast<Cell>(static_cast<int>(i * 53 % 89 - 40) * (sizeof(Cell) == 4 ? 0.05f : 90.0f));
  }
  std::unique_ptr<LstmLayer> layer = MakeLayer(kernels, lstm.get());
  std::vector<float> all;
  if (layer == nullptr || !layer->Prepare({c.time, c.batch})) return all;
  for (int call = 0; call < 2; ++call) {
    layer->Run(input.data(), output.data(), hidden.data(), cell.data());
    all.insert(all.end(), output.begin(), output.end());
    all.insert(all.end(), hidden.begin(), hidden.end());
    for (Cell value : cell) all.push_back(sizeof(Cell) == 4 ? value : value * lstm.get().cell_unit);
  }
  return all;
}

struct Difference {
  double largest = 0;
  size_t many = 0;  // of the values, how many are farther off than `near`
  size_t count = 0;
};

Difference Compare(const std::vector<float>& a, const std::vector<float>& b, double near) {
  Difference result;
  result.count = a.size();
  if (a.size() != b.size() || a.empty()) return {1e9, a.size() + 1, 0};
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= result.largest)) result.largest = std::isnan(difference) ? 1e9 : difference;
    result.many += !(difference <= near);
  }
  return result;
}

class Tests {
 public:
  explicit Tests(const Kernels& kernels) : kernels_(kernels), reference_(Reference()) {}

  int Run() {
    std::set<int> sizes = {1, 2, 3, 5, 17, 64, 100};
    for (int tile : {kernels_.width, kernels_.groups * kernels_.group})
      for (int times : {1, 2, 3, 4})
        for (int more : {-1, 0, 1})
          if (tile * times + more > 0) sizes.insert(tile * times + more);
    for (Precision precision : {Precision::kFloat32, Precision::kHybrid, Precision::kInteger}) {
      for (int units : sizes)
        for (int batch = 1; batch <= 7; ++batch) Try({precision, units, 3 + units % 11, 4, batch, batch % 2 == 0, true, 0});
      for (int features : sizes) Try({precision, 20, features, 5, 2, false, features % 2 == 0, 0});
      for (int rows = 1; rows <= 30; ++rows) Try({precision, 9, 6, rows, 1, false, true, 0});
      Try({precision, 300, 299, 3, 2, false, true, 0});
      Try({precision, 33, 300, 200, 1, false, true, 0});   // several chunks of the input side
      Try({precision, 257, 10, 150, 3, true, false, 0});
      Try({precision, 40, 12, 30, 5, false, true, 0.5f});  // cell clip
      Try({precision, 8, 4, 0, 2, false, true, 0});        // no time step
    }
    TrySpecialValues();
    std::printf("%s: %d cases, %d differ\n", kernels_.name, num_cases_, num_failures_);
    return num_failures_;
  }

 private:
  static const Kernels& Reference() {
    bool runs;
    return KernelsAt(0, &runs);
  }

  void Try(const Case& c) {
    const Operator lstm(c, 1000 + num_cases_);
    std::mt19937 random(num_cases_);
    const size_t count = static_cast<size_t>(c.time) * c.batch * c.features;
    if (c.precision == Precision::kInteger) {
      std::uniform_int_distribution<int> value(-128, 127);
      std::vector<int8_t> input(count);
      for (int8_t& x : input) x = static_cast<int8_t>(value(random));
      // A quantum at most, and seldom: where a value lies next to the middle of two.
      Check(c, Compare(Answers<int8_t, int16_t>(kernels_, lstm, c, input),
                       Answers<int8_t, int16_t>(reference_, lstm, c, input), 0), 1, 0.1);
      return;
    }
    std::normal_distribution<float> value;
    std::vector<float> input(count);
    for (float& x : input) x = value(random);
    // Float32: sums of up to 600 products of about 1, in another order, each step rounded to 6e-8; and an activation's
    // error of 4e-7. Hybrid: where a hidden state is rounded the other way, 1/127 of its range times a weight, which all
    // states after it take in.
    const bool hybrid = c.precision == Precision::kHybrid;
    Check(c, Compare(Answers<float, float>(kernels_, lstm, c, input), Answers<float, float>(reference_, lstm, c, input),
                     4e-6), hybrid ? 0.01 : 4e-6, hybrid ? 1 : 0);
  }

  // Zeros of both signs, infinities and NaN go through the plain kernels and these alike.
  void TrySpecialValues() {
    const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (float special : {0.0f, -0.0f, infinity, -infinity, nan, 1e30f, -1e30f, 1e-40f})
      for (int place : {0, 5, 23}) {
        const Case c = {Precision::kFloat32, 13, 8, 3, 2, false, false, 0};
        const Operator lstm(c, 77);
        std::vector<float> input(static_cast<size_t>(c.time) * c.batch * c.features, 0.25f);
        input[place] = special;
        Check(c, Compare(Answers<float, float>(kernels_, lstm, c, input), Answers<float, float>(reference_, lstm, c, input),
                         4e-6), 4e-6, 0);
      }
  }

  void Check(const Case& c, const Difference& difference, double largest, double share) {
    ++num_cases_;
    if (difference.largest <= largest && difference.many <= share * difference.count + (share > 0 ? 1 : 0)) return;
    ++num_failures_;
    static const char* const kNames[] = {"float32", "hybrid", "integer"};
    std::printf("%s %s units %d features %d time %d batch %d: %zu of %zu values differ, by %g at most\n", kernels_.name,
                kNames[static_cast<int>(c.precision)], c.units, c.features, c.time, c.batch, difference.many,
                difference.count, difference.largest);
  }

  const Kernels& kernels_;
  const Kernels& reference_;
  int num_cases_ = 0, num_failures_ = 0;
};

}  // namespace
}  // namespace edgelstm

int main(int count, char** names) {
  using namespace edgelstm;
  int failures = 0, tested = 0;
  for (int i = 1; i < NumKernels(); ++i) {
    bool runs;
    const Kernels& kernels = KernelsAt(i, &runs);
    bool wanted = count == 1;
    for (int name = 1; name < count; ++name) wanted |= std::strcmp(names[name], kernels.name) == 0;
    if (!wanted) continue;
    if (!runs) {
      std::printf("%s: cannot run on this processor\n", kernels.name);
      continue;
    }
    ++tested;
    failures += Tests(kernels).Run();
  }
  if (tested == 0) std::printf("no kernels were tested\n");
  return failures > 0 ? 1 : tested == 0 ? 2 : 0;
}

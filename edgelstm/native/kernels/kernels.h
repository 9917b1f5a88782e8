// The table of kernels: one entry for each instruction set, all with the same functions.
#ifndef EDGELSTM_NATIVE_KERNELS_KERNELS_H_
#define EDGELSTM_NATIVE_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace edgelstm {

// Gates stand in this order everywhere, as in the operator's tensors.
enum Gate { kInputGate, kForgetGate, kCellGate, kOutputGate, kNumGates };

// Units are computed in blocks of Kernels::width. What belongs to a gate lies, block by block, as four runs of one block's
// units: [block][gate][width]. The number of units is rounded up to whole blocks with zeros, which stay zeros.

// The input side of any number of time steps: gates[row] = bias + x[row] * weights.
struct InputF32 {
  int rows, features, blocks;
  const float* x;        // [rows, features], x_stride from row to row
  ptrdiff_t x_stride;
  const float* weights;  // [block][feature][gate][width]
  const float* bias;     // [block][gate][width]
  float* gates;          // [rows][block][gate][width], gates_stride from row to row
  ptrdiff_t gates_stride;
};

// Int8 vectors are kept in the form that dot products take them in: words of Kernels::word_bytes, each of so many
// neighbours, zeros behind the last. Where a dot product takes one side unsigned, Kernels::int8_offset has been added to
// each of the values. Strides of words are in bytes.
using Words = unsigned char;

// A vector of words means scale * (values - zero_point), without the offset.
struct RowScale {
  float scale;
  int32_t zero_point;
};

// A matrix of int8 weights, and what belongs to each of its rows.
struct Int8Weights {
  int words;             // of a row, Kernels::group * Kernels::groups values each
  const int8_t* values;  // [block][word][gate][groups][width][group]
  const int32_t* sums;   // [block][gate][width]: sum of a row's weights
  const float* scale;    // [block][gate][width]
};

// Quantizes rows of floats, each by its own range.
struct QuantizeRows {
  int rows, features;
  bool asymmetric;
  const float* x;  // [rows, features], x_stride from row to row
  ptrdiff_t x_stride;
  Words* words;  // [rows, words], words_stride from row to row
  ptrdiff_t words_stride;
  RowScale* row_scales;  // [rows]
};

// Puts int8 values into words.
struct PackInt8 {
  int rows, features;
  const int8_t* x;  // [rows, features], x_stride from row to row
  ptrdiff_t x_stride;
  Words* words;
  ptrdiff_t words_stride;
};

// The input side of rows that were quantized each by itself: gates[row] = bias + scale * (x[row] . weights).
struct InputHybrid {
  int rows, blocks;
  const Words* x;  // [rows, words], x_stride from row to row
  ptrdiff_t x_stride;
  const RowScale* row_scales;  // [rows]
  Int8Weights weights;
  const float* bias;  // [block][gate][width]
  float* gates;
  ptrdiff_t gates_stride;
};

// The input side of int8 rows: gates[row] = saturate(round(scale * (bias + x[row] . weights))), whole numbers of int16.
struct InputInt8 {
  int rows, blocks;
  const Words* x;
  ptrdiff_t x_stride;
  Int8Weights weights;
  const int32_t* bias;  // [block][gate][width], with the parts of the zero point and of the offset
  float* gates;
  ptrdiff_t gates_stride;
};

// What the recurrent side of a sequence has in every precision. All buffers are of whole blocks.
struct Sequence {
  int time, batch, units, blocks;
  const float* gates;  // of the input side: [time, batch][block][gate][width]
  ptrdiff_t gates_time_stride, gates_batch_stride;
  ptrdiff_t output_time_stride, output_batch_stride;  // in elements; negative time strides run backwards
};

struct SequenceF32 : Sequence {
  const float* weights;  // [block][unit][gate][width]
  float* hidden[2];      // [batch, blocks * width]: state before the first step in [0]; the last is left in [time % 2]
  float* cell;           // [batch, blocks * width]
  float* output;
  float cell_clip;       // 0 for none
};

// Weights in int8, everything else in float: each step's hidden state is quantized by its own largest value.
struct SequenceHybrid : Sequence {
  Int8Weights weights;
  float* hidden;  // [batch, blocks * width]
  Words* words;          // [batch]: room for the hidden state in words, words_stride from row to row
  ptrdiff_t words_stride;
  RowScale* row_scales;  // [batch]
  float* cell;           // [batch, blocks * width]
  float* output;
  float cell_clip;
  bool asymmetric;  // whether the hidden state is quantized with a zero point
};

// Integers throughout: int8 hidden state, int16 cell state of scale 2^cell_exponent, gates in Q3.12.
struct SequenceInt8 : Sequence {
  Int8Weights weights;  // their scale: from products to units of 2^-12
  const int32_t* bias;  // [block][gate][width]: the parts of the zero point and of the offset
  Words* hidden[2];     // [batch], hidden_stride from row to row; the state before the first step is in [0], as in float32
  ptrdiff_t hidden_stride;
  int16_t* cell;        // [batch, blocks * width]
  int8_t* output;
  float cell_unit;      // a power of two, 2^-15 to 2^-9
  float cell_clip;      // in units of the cell state; 0 for none
  float hidden_scale;   // from units of 2^-30 to those of the output
  float hidden_zero_point;
};

struct Kernels {
  const char* name;
  int width;        // units of a block
  int word_bytes;   // of a word
  int groups;       // of int8 values in a word
  int group;        // values of a group
  int int8_offset;  // what stands in words is this larger
  void (*input_f32)(const InputF32&);
  void (*sequence_f32)(const SequenceF32&);
  void (*quantize_rows)(const QuantizeRows&);
  void (*input_hybrid)(const InputHybrid&);
  void (*sequence_hybrid)(const SequenceHybrid&);
  void (*pack_int8)(const PackInt8&);
  void (*input_int8)(const InputInt8&);
  void (*sequence_int8)(const SequenceInt8&);
};

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_KERNELS_H_

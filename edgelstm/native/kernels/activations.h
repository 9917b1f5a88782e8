// tanh and sigmoid as rational functions, and the cell update that shares their divisions.
#ifndef EDGELSTM_NATIVE_KERNELS_ACTIVATIONS_H_
#define EDGELSTM_NATIVE_KERNELS_ACTIVATIONS_H_

#include "kernels.h"

namespace edgelstm {

// A value that is not divided yet.
template <class S>
struct Ratio {
  typename S::F numerator, denominator;
};

// x * P(x^2) / Q(x^2). The coefficients are least-maximum fits of the relative error of tanh(x) / x, made by
// tests/native/fit_activations.py; tests/native/activations_test.cc holds their evaluation in float32 to what is said here.
struct Precise {
  // tanh within 4e-7 of the value everywhere, sigmoid within 2e-7; the coefficients are within 2.3e-8.
  static constexpr float kTanhLimit = 9.02f;  // where float32 has no value between tanh and 1
  static constexpr float kTanhP[] = {0.999999979f, 0.13379723f, 0.00349404054f, 2.05835752e-05f, 1.3319192e-08f};
  static constexpr float kTanhQ[] = {1.0f, 0.467130383f, 0.0258710962f, 0.000328310243f, 7.76207083e-07f};
  static constexpr float kSigmoidLimit = 18.04f;
  static constexpr float kSigmoidP[] = {0.249999995f, 0.0083623269f, 5.45943834e-05f, 8.04045907e-08f, 1.30070235e-11f};
  static constexpr float kSigmoidQ[] = {1.0f, 0.116782596f, 0.00161694351f, 5.12984755e-06f, 3.03205892e-09f};
};

// For results of int16 in Q0.15, whose steps are 3.1e-5, and arguments of Q3.12, which end at 8.
struct Coarse {
  static constexpr float kTanhLimit = 8.0f;
  static constexpr float kTanhP[] = {0.99999729f, 0.121935176f, 0.00217954611f, 3.47897644e-06f};
  static constexpr float kTanhQ[] = {1.0f, 0.455249934f, 0.0206178941f, 0.0001318315f};
  static constexpr float kSigmoidLimit = 8.0f;
  static constexpr float kSigmoidP[] = {0.24999662f, 0.00658246257f, 1.20325396e-05f};
  static constexpr float kSigmoidQ[] = {1.0f, 0.109637931f, 0.000859303258f};
};

template <class S, int kCount>
inline typename S::F Polynomial(typename S::F u, const float (&coefficients)[kCount]) {
  typename S::F sum = S::Set(coefficients[kCount - 1]);
  for (int i = kCount - 2; i >= 0; --i) sum = S::Fma(sum, u, S::Set(coefficients[i]));
  return sum;
}

template <class S, class Fit>
inline Ratio<S> TanhRatio(typename S::F x) {
  x = S::Clamp(x, S::Set(-Fit::kTanhLimit), S::Set(Fit::kTanhLimit));
  typename S::F u = S::Mul(x, x);
  return {S::Mul(x, Polynomial<S>(u, Fit::kTanhP)), Polynomial<S>(u, Fit::kTanhQ)};
}

template <class S, class Fit>
inline Ratio<S> SigmoidRatio(typename S::F x) {
  x = S::Clamp(x, S::Set(-Fit::kSigmoidLimit), S::Set(Fit::kSigmoidLimit));
  typename S::F u = S::Mul(x, x);
  typename S::F denominator = Polynomial<S>(u, Fit::kSigmoidQ);
  typename S::F half = S::Mul(S::Set(0.5f), denominator);
  return {S::Fma(x, Polynomial<S>(u, Fit::kSigmoidP), half), denominator};
}

// f * c + i * g with one division.
template <class S>
inline typename S::F NewCell(typename S::F c, Ratio<S> i, Ratio<S> f, Ratio<S> g) {
  typename S::F both = S::Mul(i.denominator, g.denominator);
  typename S::F kept = S::Mul(S::Mul(f.numerator, c), both);
  typename S::F sum = S::Fma(S::Mul(i.numerator, g.numerator), f.denominator, kept);
  return S::Div(sum, S::Mul(both, f.denominator));
}

template <class S>
inline typename S::F Quotient(Ratio<S> x) {
  return S::Div(x.numerator, x.denominator);
}

template <class S>
inline typename S::F Product(Ratio<S> a, Ratio<S> b) {
  return S::Div(S::Mul(a.numerator, b.numerator), S::Mul(a.denominator, b.denominator));
}

// Finishes a step of a block's units: updates their cell state and returns their hidden state.
template <class S>
inline typename S::F FinishStep(const typename S::F (&gates)[kNumGates], float* cell, float cell_clip) {
  typename S::F c = NewCell<S>(S::Load(cell), SigmoidRatio<S, Precise>(gates[kInputGate]),
                               SigmoidRatio<S, Precise>(gates[kForgetGate]), TanhRatio<S, Precise>(gates[kCellGate]));
  if (cell_clip > 0) c = S::Clamp(c, S::Set(-cell_clip), S::Set(cell_clip));
  S::Store(cell, c);
  return Product<S>(SigmoidRatio<S, Precise>(gates[kOutputGate]), TanhRatio<S, Precise>(c));
}

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_KERNELS_ACTIVATIONS_H_

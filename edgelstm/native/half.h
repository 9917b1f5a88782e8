// IEEE 754 binary16 to float32, without an instruction for it.
#ifndef EDGELSTM_NATIVE_HALF_H_
#define EDGELSTM_NATIVE_HALF_H_

#include <cmath>
#include <cstdint>

namespace edgelstm {

inline float FloatOfHalf(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                : std::ldexp(static_cast<float>(fraction | 1024), exponent - 25);
  return bits & 0x8000 ? -value : value;
}

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_HALF_H_

// Memory for vectors, of whole cache lines.
#ifndef EDGELSTM_NATIVE_BUFFER_H_
#define EDGELSTM_NATIVE_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace edgelstm {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  // Makes room for values, all of them zero. False if there is no such memory; then there is none at all.
  bool Resize(size_t count) {
    constexpr size_t kLine = 64;
    std::free(data_);
    data_ = nullptr;
    size_t bytes;
    if (__builtin_mul_overflow(count, sizeof(T), &bytes) || bytes > static_cast<size_t>(-1) - kLine) return false;
    bytes = (bytes / kLine + 1) * kLine;
    data_ = static_cast<T*>(std::aligned_alloc(kLine, bytes));
    if (data_ != nullptr) std::memset(static_cast<void*>(data_), 0, bytes);
    return data_ != nullptr;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }

 private:
  T* data_ = nullptr;
};

}  // namespace edgelstm

#endif  // EDGELSTM_NATIVE_BUFFER_H_

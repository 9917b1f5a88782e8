// The delegate in a runtime made for it: hostile graphs, and what a call may not do.
//
//   delegate_test hostile COUNT     graphs with something wrong in each; a sanitizer sees wrong reads
//   delegate_test quiet             a call neither allocates nor calls the system
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>

#include "fake_runtime.h"

#ifdef COUNT_ALLOCATIONS
#include <linux/seccomp.h>

static std::atomic<int> num_allocations{0};
extern "C" void* __libc_malloc(size_t);
extern "C" void* __libc_memalign(size_t, size_t);
extern "C" void* malloc(size_t bytes) {
  ++num_allocations;
  return __libc_malloc(bytes);
}
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
  ++num_allocations;
  return __libc_memalign(alignment, bytes);
}
#endif

namespace edgelstm {
namespace {

constexpr Form kForms[] = {Form::kFloat32, Form::kFloat16, Form::kHybrid, Form::kInteger};

class Mutation {
 public:
  Mutation(FakeRuntime* runtime, std::mt19937* random) : runtime_(*runtime), random_(*random) {}

  void Apply() {
    TfLiteTensor& tensor = runtime_.tensors()[Below(static_cast<int>(runtime_.tensors().size()))];
    TfLiteNode& node = runtime_.lstm();
    switch (Below(16)) {
      case 0:
        if (tensor.dims != nullptr && tensor.dims->size > 0) ChangeInt(&tensor.dims->data[Below(tensor.dims->size)]);
        return;
      case 1:
        if (tensor.dims != nullptr) tensor.dims->size = Below(tensor.dims->size + 1);  // fewer axes
        return;
      case 2:
        tensor.dims = nullptr;
        return;
      case 3:
        tensor.type = static_cast<TfLiteType>(Below(12));
        return;
      case 4:
        tensor.data = tensor.allocation_type == kTfLiteMmapRo ? nullptr : tensor.data;
        return;
      case 5:
        // A runtime counts the bytes of all but constants itself.
        tensor.bytes = Below(3) || tensor.allocation_type != kTfLiteMmapRo ? tensor.bytes / 2 : static_cast<size_t>(-1);
        return;
      case 6:
        tensor.allocation_type = static_cast<TfLiteAllocationType>(Below(6));
        return;
      case 7:
        tensor.is_variable = !tensor.is_variable;
        return;
      case 8:
        tensor.params = {Float(), static_cast<int32_t>(random_())};
        return;
      case 9:
        tensor.quantization = {static_cast<TfLiteQuantizationType>(Below(3)), nullptr};
        return;
      case 10: {
        TfLiteIntArray* inputs = node.inputs;  // another tensor, one that overlaps, or none
        inputs->data[Below(inputs->size)] = Below(8) ? Below(static_cast<int>(runtime_.tensors().size())) - 1
                                                     : static_cast<int>(random_());
        return;
      }
      case 11:
        node.inputs->size = Below(25);
        return;
      case 12:
        if (Below(2)) {
          node.outputs->data[0] = static_cast<int>(random_());
        } else {
          node.outputs->size = 0;
        }
        return;
      case 13:
        if (Below(2)) {
          node.intermediates = nullptr;
        } else if (node.intermediates != nullptr && node.intermediates->size > 0) {
          node.intermediates->data[Below(node.intermediates->size)] = Below(40) - 2;
        }
        return;
      case 14:
        if (Below(4) == 0) node.builtin_data = nullptr;
        runtime_.parameters().activation = static_cast<TfLiteFusedActivation>(Below(8));
        return;
      default:
        runtime_.parameters().cell_clip = Float();
        runtime_.parameters().time_major = Below(2);
        return;
    }
  }

 private:
  int Below(int count) { return count > 0 ? static_cast<int>(random_() % static_cast<unsigned>(count)) : 0; }

  float Float() {
    constexpr float kValues[] = {0, -1, 1e-45f, 1e38f, std::numeric_limits<float>::infinity(),
                                 std::numeric_limits<float>::quiet_NaN(), 0.01f};
    return kValues[Below(7)];
  }

  void ChangeInt(int* value) {
    const int64_t old = *value, changed[] = {0, -1, old + 1, old - 1, 2 * old, std::numeric_limits<int>::max(),
                                             std::numeric_limits<int>::min(), 65536};
    *value = static_cast<int>(changed[Below(8)]);
  }

  FakeRuntime& runtime_;
  std::mt19937& random_;
};

int RunHostile(int count) {
  std::mt19937 random(1);
  int taken = 0, refused = 0, left = 0;
  for (int i = 0; i < count; ++i) {
    const Sizes sizes = {static_cast<int>(random() % 5), static_cast<int>(random() % 4), 1 + static_cast<int>(random() % 9),
                         1 + static_cast<int>(random() % 20)};
    FakeRuntime runtime(kForms[i % 4], sizes, random());
    for (unsigned change = 0; change <= random() % 2; ++change) Mutation(&runtime, &random).Apply();
    TfLiteDelegate* delegate = tflite_plugin_create_delegate(nullptr, nullptr, 0, nullptr);
    const int result = runtime.Run(delegate, 2);
    (result < 0 ? refused : result == 0 ? left : taken) += 1;
    tflite_plugin_destroy_delegate(delegate);
  }
  std::printf("%d graphs: %d run, %d refused when they were prepared, %d left alone\n", count, taken, refused, left);
  // Mutants that are all refused, or none, would prove nothing.
  return taken > count / 20 && refused > 0 && left > count / 20 ? 0 : 1;
}

int RunQuiet() {
#ifdef COUNT_ALLOCATIONS
  int failures = 0;
  for (Form form : kForms) {
    FakeRuntime runtime(form, {300, 2, 20, 30}, 1);
    TfLiteDelegate* delegate = tflite_plugin_create_delegate(nullptr, nullptr, 0, nullptr);
    if (runtime.Run(delegate, 1) != 1) return 1;
    const int before = num_allocations;
    const bool done = runtime.Invoke();
    const int allocations = num_allocations - before;
    const pid_t child = fork();
    if (child == 0) {
      // From here on the kernel lets a process only read, write and end.
      if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) _exit(3);
      syscall(SYS_exit, runtime.Invoke() ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    const bool quiet = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    std::printf("form %d: %d allocations, %s\n", static_cast<int>(form), allocations,
                quiet ? "no system call" : "a system call");
    failures += !done || allocations != 0 || !quiet;
    tflite_plugin_destroy_delegate(delegate);
  }
  return failures > 0 ? 1 : 0;
#else
  std::printf("built without COUNT_ALLOCATIONS\n");
  return 2;
#endif
}

}  // namespace
}  // namespace edgelstm

int main(int count, char** arguments) {
  if (count == 3 && std::strcmp(arguments[1], "hostile") == 0) return edgelstm::RunHostile(std::atoi(arguments[2]));
  if (count == 2 && std::strcmp(arguments[1], "quiet") == 0) return edgelstm::RunQuiet();
  std::printf("usage: delegate_test hostile COUNT | quiet\n");
  return 2;
}

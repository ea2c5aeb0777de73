// A kernel, run for every block of the grid, one after the other.
#pragma once
#include <pmmintrin.h>
#include <xmmintrin.h>

namespace cupy_on_cpu {

// The processor flushes denormal operands and results while this is in scope.
class Flushing {
  unsigned before;

 public:
  explicit Flushing(bool flush) : before(_mm_getcsr()) {
    if (flush) _mm_setcsr(before | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
  }
  ~Flushing() { _mm_setcsr(before); }
};

// Opaque to the optimizer, so that no arithmetic leaves the scope of Flushing.
__attribute__((noipa)) static void run_grid() {
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
        if (with_fibers) {
          run_block_of_fibers(threads);
          continue;
        }
        for (int t = 0; t < threads; t++) {
          become(t);
          body(arguments);
        }
      }
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void **parameters, std::index_sequence<I...>) {
  kernel(*reinterpret_cast<typename std::remove_const<A>::type *>(parameters[I])...);
}

// The bytes of each of a kernel's parameters, and how many there are.
template <class... A>
static int parameter_sizes(void (*)(A...), unsigned *bytes) {
  const unsigned each[] = {unsigned(sizeof(A))..., 0u};
  memcpy(bytes, each, sizeof...(A) * sizeof(unsigned));
  return sizeof...(A);
}

// size: grid and block, three numbers each.
template <class... A>
static void launch(void (*kernel)(A...), void **parameters, const unsigned *size, bool synchronizes, bool flush) {
  struct Call {
    void (*kernel)(A...);
    void **parameters;
  } what{kernel, parameters};
  gridDim = dim3(size[0], size[1], size[2]);
  blockDim = dim3(size[3], size[4], size[5]);
  with_fibers = synchronizes;
  body = [](void *p) {
    Call *what = static_cast<Call *>(p);
    call(what->kernel, what->parameters, std::index_sequence_for<A...>());
  };
  arguments = &what;
  Flushing scope(flush);
  run_grid();
}

}  // namespace cupy_on_cpu

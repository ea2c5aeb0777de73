// CUDA's keywords, vector types and built-in variables.
#pragma once
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <math.h>
#include <tuple>
#include <type_traits>
#include <utility>

#define CUPY_ON_CPU 1
#define __CUDACC_VER_MAJOR__ 12  // so that CuPy's float16.cuh includes <cuda_fp16.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static  // one block runs at a time
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace cupy_on_cpu {
constexpr int max_threads = 1024;
alignas(16) static char dynamic_shared[48 << 10];  // what "extern __shared__" is
}  // namespace cupy_on_cpu

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
#define __grid_constant__
#define __shared__ static  // one block runs at a time
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

// float4, uint2 and so on; aligned as CUDA aligns them.
#define CUPY_ON_CPU_VECTORS(NAME, T)                                                          \
  struct NAME##1 { T x; };                                                                    \
  struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                          \
  struct NAME##3 { T x, y, z; };                                                              \
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) NAME##4 { T x, y, z, w; };               \
  static inline NAME##1 make_##NAME##1(T x) { return {x}; }                                   \
  static inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                           \
  static inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                   \
  static inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUPY_ON_CPU_VECTORS(char, signed char)
CUPY_ON_CPU_VECTORS(uchar, unsigned char)
CUPY_ON_CPU_VECTORS(short, short)
CUPY_ON_CPU_VECTORS(ushort, unsigned short)
CUPY_ON_CPU_VECTORS(int, int)
CUPY_ON_CPU_VECTORS(uint, unsigned)
CUPY_ON_CPU_VECTORS(longlong, long long)
CUPY_ON_CPU_VECTORS(ulonglong, unsigned long long)
CUPY_ON_CPU_VECTORS(float, float)
CUPY_ON_CPU_VECTORS(double, double)
#undef CUPY_ON_CPU_VECTORS

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

// CUDA's functions of one number that <cmath> lacks or has in std alone. All are rounded as IEEE 754 says.
#pragma once

namespace cupy_on_cpu {
template <class To, class From>
static inline To bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "");
  To y;
  memcpy(&y, &x, sizeof(To));
  return y;
}

template <class A, class B>
using common_number = typename std::enable_if<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value,
                                              typename std::common_type<A, B>::type>::type;
}  // namespace cupy_on_cpu

template <class A, class B>
static inline cupy_on_cpu::common_number<A, B> min(A a, B b) {
  typedef cupy_on_cpu::common_number<A, B> C;
  if constexpr (std::is_floating_point<C>::value) return std::fmin(C(a), C(b));
  else return C(a) < C(b) ? C(a) : C(b);
}
template <class A, class B>
static inline cupy_on_cpu::common_number<A, B> max(A a, B b) {
  typedef cupy_on_cpu::common_number<A, B> C;
  if constexpr (std::is_floating_point<C>::value) return std::fmax(C(a), C(b));
  else return C(a) > C(b) ? C(a) : C(b);
}

static inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float x) { return std::sqrt(x); }

static inline float __int_as_float(int x) { return cupy_on_cpu::bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return cupy_on_cpu::bits<float>(x); }
static inline int __float_as_int(float x) { return cupy_on_cpu::bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return cupy_on_cpu::bits<unsigned>(x); }
static inline double __longlong_as_double(long long x) { return cupy_on_cpu::bits<double>(x); }
static inline long long __double_as_longlong(double x) { return cupy_on_cpu::bits<long long>(x); }
static inline int __double2hiint(double x) { return int(__double_as_longlong(x) >> 32); }
static inline int __double2loint(double x) { return int(__double_as_longlong(x)); }
static inline double __hiloint2double(int high, int low) {
  return __longlong_as_double((static_cast<long long>(high) << 32) | static_cast<unsigned>(low));
}

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

template <class T>
static inline T __ldg(const T *address) {
  return *address;
}

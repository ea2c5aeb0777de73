// As much of CUDA's half as CuPy's own float16 is made of. GCC's _Float16 rounds once, to nearest even.
#pragma once

struct __half_raw {
  unsigned short x;
};

struct half {
  _Float16 v;
  half() {}
  half(float x) : v(static_cast<_Float16>(x)) {}
  explicit half(double x) : v(static_cast<_Float16>(x)) {}
  explicit half(int x) : v(static_cast<_Float16>(x)) {}
  explicit half(unsigned x) : v(static_cast<_Float16>(x)) {}
  explicit half(long long x) : v(static_cast<_Float16>(x)) {}
  explicit half(unsigned long long x) : v(static_cast<_Float16>(x)) {}
  half(const __half_raw &raw) { memcpy(&v, &raw.x, 2); }
  operator float() const { return static_cast<float>(v); }
  operator __half_raw() const {
    __half_raw raw;
    memcpy(&raw.x, &v, 2);
    return raw;
  }
};
typedef half __half;

static inline unsigned short __half_as_ushort(half x) { return __half_raw(x).x; }
static inline half __ushort_as_half(unsigned short x) { return half(__half_raw{x}); }
static inline float __half2float(half x) { return static_cast<float>(x); }
static inline half __float2half_rn(float x) { return half(x); }

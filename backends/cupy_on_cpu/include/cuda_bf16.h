// As much of CUDA's bfloat16 as CuPy's own is made of: the upper half of a float, rounded to nearest even.
#pragma once

struct __nv_bfloat16 {
  unsigned short x;
  __nv_bfloat16() {}
  __nv_bfloat16(float value) {
    const unsigned all = cupy_on_cpu::bits<unsigned>(value);
    x = value != value ? 0x7fff : static_cast<unsigned short>((all + 0x7fff + ((all >> 16) & 1)) >> 16);
  }
  operator float() const { return cupy_on_cpu::bits<float>(static_cast<unsigned>(x) << 16); }
};

static inline bool __hisnan(__nv_bfloat16 value) { return (value.x & 0x7fff) > 0x7f80; }
static inline bool __hisinf(__nv_bfloat16 value) { return (value.x & 0x7fff) == 0x7f80; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.x; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) {
  __nv_bfloat16 value;
  value.x = x;
  return value;
}

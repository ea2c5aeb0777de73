// Atomic functions and fences. Threads take turns, so nothing interrupts them.
#pragma once

#define CUPY_ON_CPU_ATOMIC(NAME, NEW)          \
  template <class T>                           \
  static inline T NAME(T *address, T value) {  \
    T old = *address;                          \
    *address = (NEW);                          \
    return old;                                \
  }
CUPY_ON_CPU_ATOMIC(atomicAdd, old + value)
CUPY_ON_CPU_ATOMIC(atomicSub, old - value)
CUPY_ON_CPU_ATOMIC(atomicMin, old < value ? old : value)
CUPY_ON_CPU_ATOMIC(atomicMax, old > value ? old : value)
CUPY_ON_CPU_ATOMIC(atomicExch, value)
CUPY_ON_CPU_ATOMIC(atomicAnd, old & value)
CUPY_ON_CPU_ATOMIC(atomicOr, old | value)
CUPY_ON_CPU_ATOMIC(atomicXor, old ^ value)
#undef CUPY_ON_CPU_ATOMIC

template <class T>
static inline T atomicCAS(T *address, T expected, T value) {
  T old = *address;
  if (old == expected) *address = value;
  return old;
}

static inline void __threadfence() {}
static inline void __threadfence_block() {}

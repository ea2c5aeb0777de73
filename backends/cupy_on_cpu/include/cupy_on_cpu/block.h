// The threads of a block that wait for one another: each is a fiber with a stack of its own, resumed in turn.
// Kernels that never wait need no fibers; launch.h runs them as a loop.
#pragma once
#include <ucontext.h>

namespace cupy_on_cpu {

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Fiber {
  ucontext_t context;
  char *stack;
  State state;
};
constexpr size_t stack_bytes = 64 << 10;

static Fiber fibers[max_threads];
static ucontext_t scheduler;
static int running;          // the thread, by its number in the block
static bool with_fibers;     // whether the kernel waits anywhere
static void (*body)(void *);  // the kernel, called with its arguments
static void *arguments;

static void become(int thread) {
  running = thread;
  threadIdx.x = thread % blockDim.x;
  threadIdx.y = thread / blockDim.x % blockDim.y;
  threadIdx.z = thread / blockDim.x / blockDim.y;
}

static void pause(State state) {
  fibers[running].state = state;
  swapcontext(&fibers[running].context, &scheduler);
}

static void run_fiber() {
  body(arguments);
  pause(State::done);
}

static void start(Fiber &fiber) {
  if (!fiber.stack) fiber.stack = static_cast<char *>(malloc(stack_bytes));
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
  fiber.state = State::ready;
}

static void run_block_of_fibers(int threads) {
  for (int t = 0; t < threads; t++) start(fibers[t]);
  for (;;) {
    int live = 0, at_barrier = 0;
    bool progress = false;
    for (int t = 0; t < threads; t++)
      if (fibers[t].state == State::ready) {
        become(t);
        swapcontext(&scheduler, &fibers[t].context);
        progress = true;
      }
    for (int t = 0; t < threads; t++) {
      if (fibers[t].state == State::at_warp_barrier) {
        fibers[t].state = State::ready;
        progress = true;
      }
      live += fibers[t].state != State::done;
      at_barrier += fibers[t].state == State::at_block_barrier;
    }
    if (live == 0) return;
    if (at_barrier == live) {
      for (int t = 0; t < threads; t++)
        if (fibers[t].state == State::at_block_barrier) fibers[t].state = State::ready;
    } else if (!progress) {
      abort();
    }
  }
}

static inline void wait(State state) {
  if (with_fibers) pause(state);
  else if (blockDim.x * blockDim.y * blockDim.z > 1) abort();  // "with_fibers" was told wrong
}

// What each thread offers to its warp in a shuffle.
alignas(16) static unsigned char offered[max_threads][16];

template <class T>
static inline T shuffle(T value, int lane, bool valid) {
  static_assert(sizeof(T) <= 16, "");
  memcpy(offered[running], &value, sizeof(T));
  wait(State::at_warp_barrier);
  T result = value;
  if (valid) memcpy(static_cast<void *>(&result), offered[(running & ~31) + lane], sizeof(T));
  wait(State::at_warp_barrier);
  return result;
}

static inline int lane() { return running & 31; }

}  // namespace cupy_on_cpu

static inline void __syncthreads() { cupy_on_cpu::wait(cupy_on_cpu::State::at_block_barrier); }
static inline void __syncwarp(unsigned = ~0u) { cupy_on_cpu::wait(cupy_on_cpu::State::at_warp_barrier); }

template <class T>
static inline T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
  const int lane = cupy_on_cpu::lane(), source = lane ^ mask;
  return cupy_on_cpu::shuffle(value, source, (source & ~(width - 1)) == (lane & ~(width - 1)));
}
template <class T>
static inline T __shfl_up_sync(unsigned, T value, int delta, int width = 32) {
  const int lane = cupy_on_cpu::lane();
  return cupy_on_cpu::shuffle(value, lane - delta, (lane & (width - 1)) >= delta);
}
template <class T>
static inline T __shfl_down_sync(unsigned, T value, int delta, int width = 32) {
  const int lane = cupy_on_cpu::lane();
  return cupy_on_cpu::shuffle(value, lane + delta, (lane & (width - 1)) + delta < width);
}
template <class T>
static inline T __shfl_sync(unsigned, T value, int source, int width = 32) {
  return cupy_on_cpu::shuffle(value, (cupy_on_cpu::lane() & ~(width - 1)) + (source & (width - 1)), true);
}

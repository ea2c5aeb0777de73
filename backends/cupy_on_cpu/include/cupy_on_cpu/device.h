// All that CUDA C++ finds without an #include, for g++.
#pragma once
#include "cupy_on_cpu/language.h"
#include "cupy_on_cpu/math.h"
#include "cupy_on_cpu/atomics.h"
#include "cupy_on_cpu/block.h"
#include "cupy_on_cpu/launch.h"

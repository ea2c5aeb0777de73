// What CuPy's <cupy/complex/...> takes from Thrust.
#pragma once
#define THRUST_NS_QUALIFIER ::thrust
#include <thrust/detail/config/namespace.h>

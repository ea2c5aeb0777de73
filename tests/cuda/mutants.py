"""Mistakes to plant in CuPy's emitter, and which check must see each.

There is none about precedence: a statement of a kernel has one operator.
"""

from __future__ import annotations

from tests.mutation import Check, Mutant, Mutants

ON_CPU = ("-p", "cupy_on_cpu", "--backend", "cupy")


def compiled(case: str) -> Check:
    """One kernel, for one architecture."""
    return Check("tests/cuda/test_compile.py", f"sm_90 and -{case}]")


def exact(case: str) -> Check:
    """A thousand steps on CuPy."""
    return Check("tests/exact/test_exact.py", f"CuPy-{case}]", ON_CPU)


def steps(test: str) -> Check:
    """What only CuPy can show."""
    return Check("tests/test_cupy.py", test, ON_CPU)


OPTIONS, CALL = '("--fmad=false",)', "    kernel(*inputs, *scalars, *outputs)\n"
VALUES = "{', '.join(values)}"
STORED = f"{{_C_TYPE[stored[name]]}}({VALUES})"
OUTPUT = f'f"out_{{name}} = {STORED};"'
REAL = "{real_dtype}"
SCALARS = f'f"{REAL} {{name}}" for name in program.scalars'
TABLE = '        "sqrt": "sqrt({})",\n'

EMITTER = [
    # operations
    Mutant(
        "an approximate quotient", TABLE, f'{TABLE}        "div": "__fdividef({{}}, {{}})",\n', compiled("adam_float32")
    ),
    Mutant(
        "a minimum that loses NaN",
        '"{0} < {1} || {0} != {0} ? {0} : {1}"',
        '"fmin({}, {})"',
        compiled("adamod_float32"),
    ),
    Mutant("a difference turned round", TABLE, f'{TABLE}        "sub": "{{1}} - {{0}}",\n', exact("adam-float32")),
    Mutant("the other branch of where", '"{} ? {} : {}"', '"{0} ? {2} : {1}"', exact("radam-float32")),
    # types
    Mutant("scalars in double", SCALARS, SCALARS.replace(REAL, "double"), compiled("adam_float32")),
    Mutant("scalars in 16 bits", SCALARS, SCALARS.replace(REAL, "{storage}"), exact("adam-float16")),
    Mutant(
        "16 bits computed in 16 bits",
        "real_dtype = real_compute_dtype(storage)",
        "real_dtype = storage",
        exact("adam-float16"),
    ),
    Mutant(
        "slots rounded as the parameter is",
        OUTPUT,
        OUTPUT.replace(f"({VALUES})", f"({{_C_TYPE[storage]}}({VALUES}))"),
        exact("adam-bfloat16"),
    ),
    # memory
    Mutant(
        "slots in each other's place",
        "iter(of_reals.outputs)",
        "iter((of_reals.outputs[0], *of_reals.outputs[:0:-1]))",
        exact("adamod-float32"),
    ),
    Mutant(
        "an array read again", OUTPUT, OUTPUT.replace(STORED, f"{STORED} + 0 * in_{{name}}"), compiled("adamod_float32")
    ),
    Mutant(
        "results added to what was there",
        OUTPUT,
        OUTPUT.replace(" = ", " += ", 1),
        steps("fresh_memory_is_never_read and cupy-float32-adam]"),
    ),
]

LAUNCHES = [
    Mutant("multiply-adds are contracted", OPTIONS, '("--fmad=true",)', compiled("adam_float32")),
    Mutant("fast math", OPTIONS, '("--fmad=false", "--use_fast_math")', compiled("adam_float32")),
    Mutant(
        "fresh arrays for a donated state",
        "new = old if donate else [",
        "new = [",
        steps("a_donated_step_allocates_nothing[adam]"),
    ),
    Mutant(
        "a gradient copied first",
        "_launch(kernel, g, old",
        "_launch(kernel, g.copy(), old",
        steps("one_launch_a_leaf_and_none_else[adam-kept]"),
    ),
    Mutant(
        "always the first device",
        "with old[0].device:",
        'with sys.modules["cupy"].cuda.Device(0):',
        steps("launches_are_on_the_device_of_their_leaf"),
    ),
    Mutant(
        "always the default stream",
        CALL,
        '    with sys.modules["cupy"].cuda.Stream.null:\n    ' + CALL,
        steps("the_callers_stream_is_used[kept]"),
    ),
    Mutant(
        "waiting for the device",
        CALL,
        CALL + '    sys.modules["cupy"].cuda.get_current_stream().synchronize()\n',
        steps("nothing_crosses_and_nobody_waits and cupy-adam]"),
    ),
]

MUTANTS: Mutants = {"adamod_array/_program/cuda_source.py": EMITTER, "adamod_array/_engines/cupy.py": LAUNCHES}

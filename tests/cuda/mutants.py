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


def leaves(test: str) -> Check:
    """What the kernel of all leaves can show."""
    return Check("tests/test_cupy_tree.py", test, ON_CPU)


OPTIONS, CALL = '("--fmad=false",)', "            self.kernel((grid,), (THREADS,), (self.arguments,))\n"
VALUES = "{', '.join(values)}"
STORED = f"{{C_TYPE[stored[name]]}}({VALUES})"
OUTPUT = f'f"out_{{name}} = {STORED};"'
REAL = "{real}"
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
    Mutant("scalars in double", SCALARS, SCALARS.replace(REAL, "double"), compiled("adam_gaps_float32_decay")),
    Mutant(
        "scalars in 16 bits", SCALARS, SCALARS.replace(REAL, "{storage}"), leaves("bits_are_those and [adam-float16]")
    ),
    Mutant(
        "16 bits computed in 16 bits",
        "real = C_TYPE[real_compute_dtype(storage)]",
        "real = C_TYPE[storage]",
        exact("adam-float16"),
    ),
    Mutant(
        "slots rounded as the parameter is",
        OUTPUT,
        OUTPUT.replace(f"({VALUES})", f"({{C_TYPE[storage]}}({VALUES}))"),
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
        "an array read again",
        OUTPUT,
        OUTPUT.replace(STORED, f"{STORED} + 0 * in_{{name}}"),
        compiled("adamod_gaps_float32_decay"),
    ),
    Mutant(
        "results added to what was there",
        OUTPUT,
        OUTPUT.replace(" = ", " += ", 1),
        steps("fresh_memory_is_never_read and cupy-float32-adam]"),
    ),
]

BITS = "bits_are_those and [adam-float32]"

TABLE_OF_LEAVES = [
    Mutant("the rest of a leaf left out", "stop - (stop - start) % {width} : start", "stop : start", leaves(BITS)),
    Mutant("packs where nothing is aligned", "& 15) == 0;", "& 0) == 0;", leaves(BITS)),
    Mutant("the leaf before", "leaves[middle] <= b", "leaves[middle] < b", leaves(BITS)),
    Mutant("blocks that overlap", "(b - leaves[leaf]) * {BLOCK}, size", "(b - leaves[leaf]) * 64, size", leaves(BITS)),
    Mutant(
        "the scalars of the leaf before",
        "leaves[2 * count + 1 + leaf]",
        "leaves[2 * count + leaf]",
        leaves("scalars_of_their_own[2]"),
    ),
    Mutant(
        "a scalar on the device in another's place",
        "{next(on_device)}]",
        "0]",
        leaves("the_count_on_the_device"),
    ),
    Mutant("4 bytes at a time", "struct alignas(16) Pack", "struct Pack", compiled("adam_float32")),
    Mutant(
        "halves of complex numbers turned round",
        "parts_{x}.at[2 * k] = new_{x}.at[k].real(), parts_{x}.at[2 * k + 1] = new_{x}.at[k].imag();",
        "parts_{x}.at[2 * k + 1] = new_{x}.at[k].real(), parts_{x}.at[2 * k] = new_{x}.at[k].imag();",
        leaves("bits_are_those and [adam-complex64]"),
    ),
    Mutant(
        "more blocks at once than there are registers for",
        "__launch_bounds__({THREADS}, 1)",
        "__launch_bounds__({THREADS}, 8)",
        compiled("adamod_many_bfloat16_decay"),
    ),
]

STEPS = [
    Mutant(
        "fresh arrays for a donated state",
        "new = mine.columns if donate else [",
        "new = [",
        steps("a_donated_step_allocates_nothing[adam]"),
    ),
    Mutant(
        "results in the old arrays", "to = at[1:] if donate else", "to = at[1:] if donate or at.size else", leaves(BITS)
    ),
    Mutant(
        "a factor of 1 for complex leaves",
        "decays if is_complex(p) else None",
        "None",
        leaves("infinite_complex"),
    ),
    Mutant(
        "gradients that are written not copied",
        "inputs.grads, addresses = disjoint_unless(plan.apart, _addresses(memory, inputs), inputs)",
        "addresses = None",
        leaves("a_gradient_that_is_another_parameter"),
    ),
]

LAUNCHES = [
    Mutant("multiply-adds are contracted", OPTIONS, '("--fmad=true",)', compiled("adam_float32")),
    Mutant("fast math", OPTIONS, '("--fmad=false", "--use_fast_math")', compiled("adam_float32")),
    Mutant("tables of any stream", "(stream.ptr, thread, words", "(0, thread, words", leaves("tables_of_their_own")),
    Mutant("tables sent at each step", "self.tables[name] = {**", "_ = {**", leaves("are_sent_once")),
    Mutant("the first words alone", "range(0, words.size, SENT)", "range(0, 1, SENT)", leaves("any_number_of_leaves")),
    Mutant(
        "more blocks than the device holds",
        "grid = min(self.group.blocks, ",
        "grid = max(self.group.blocks, ",
        leaves("as_many_as"),
    ),
    Mutant(
        "always the default stream",
        CALL,
        '            with sys.modules["cupy"].cuda.Stream.null:\n    ' + CALL,
        steps("the_callers_stream_is_used[kept]"),
    ),
    Mutant(
        "waiting for the device",
        CALL,
        CALL + '            sys.modules["cupy"].cuda.get_current_stream().synchronize()\n',
        steps("nothing_crosses_and_nobody_waits and cupy-adam]"),
    ),
]

OF_A_LEAF = [
    Mutant(
        "a gradient copied first",
        "_launch(kernel, g, old",
        "_launch(kernel, g.copy(), old",
        steps("one_launch_for_every_layout[gaps-kept]"),
    ),
    Mutant(
        "always the first device",
        "with cuda.Device(device):",
        "with cuda.Device(0):",
        steps("launches_are_on_the_device_of_their_leaf"),
    ),
]

MUTANTS: Mutants = {
    "adamod_array/_program/cuda_source.py": EMITTER,
    "adamod_array/_program/cuda_table_source.py": TABLE_OF_LEAVES,
    "adamod_array/_engines/cuda_table.py": STEPS,
    "adamod_array/_engines/cuda_launch.py": LAUNCHES,
    "adamod_array/_engines/cupy.py": OF_A_LEAF,
}

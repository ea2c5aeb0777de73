"""Mistakes to plant in the core, and which check must see each.

Some are not here, for no result tells them from the core:

* ``_step.py``: not to ask again after a schedule whether the state is spent. The claim fails, or the question at the
  end.
* ``_step.py``: to use or keep a plan in a step without some gradients. Its key has a rate for each of its leaves, which
  are fewer than the tree's.
* ``_leaves.py``: not to compare layouts in ``are``. The next step looks whether arrays have changed.
* ``look.py``: not to look whether all arrays are writable. A plan that writes was made by a step that looked, and flags
  are among what is known again. Nor for interpreters of functorch: their tensors have other dispatch keys, which are
  compared.
* ``_coefficients.py``: to leave rows as they are that NumPy might round otherwise. NumPy's functions happen to agree.
* ``_norm.py``: ``<`` for ``<=`` in the comparison with the limit. The quotient of equal norms is 1.
* ``torch_program.py``: to leave one number for all elements expanded. It is a tensor where a rate is one on a GPU.
* What costs time alone: plans and looks that are dropped, threads, prefetching, the size of blocks, operations that no
  output depends on.
"""

from __future__ import annotations

from tests.mutation import Check, Mutant, Mutants


def numpy(file: str, select: str) -> Check:
    """Tests on NumPy's arrays."""
    return Check(f"tests/test_{file}.py", select)


def torch(file: str, select: str) -> Check:
    """Tests on PyTorch's tensors."""
    return Check(f"tests/test_{file}.py", select, ("--backend", "torch"))


def strict(file: str, select: str) -> Check:
    """Tests on the arrays of array-api-strict, which has two devices."""
    return Check(f"tests/test_{file}.py", select, ("--backend", "strict"))


def cupy(file: str, select: str) -> Check:
    """Tests on CuPy's arrays, on the CPU."""
    return Check(f"tests/test_{file}.py", select, ("-p", "cupy_on_cpu", "--backend", "cupy"))


def cuda(select: str) -> Check:
    """Tests of PyTorch's tensors by CuPy's kernel, on the CPU."""
    return Check("tests/exact/test_cuda_table.py", select, ("-p", "cupy_on_cpu"))


def jax(file: str, select: str) -> Check:
    """Tests on JAX's arrays."""
    return Check(f"tests/test_{file}.py", select, ("--backend", "jax"))


def mesh() -> Check:
    """Steps on a mesh of one device."""
    return Check("tests/exact/test_mesh.py", "mesh")


def scipy(select: str) -> Check:
    """Tests of methods for SciPy."""
    return Check("tests/peers/test_scipy.py", select)


def kernels(select: str) -> Check:
    """Tests of what Numba compiles."""
    return Check("tests/exact/test_kernels.py", select)


def lower() -> Check:
    """Complex programs as pairs of reals."""
    return Check("tests/test_lower.py", "compute_what_the_rule_does")


def optax(file: str, select: str) -> Check:
    """Tests of what optax's users call."""
    return Check(f"tests/peers/test_{file}.py", select)


PACKAGE = "adamod_array"
ENGINES = f"{PACKAGE}/_engines"
PROGRAM = f"{PACKAGE}/_program"

STEP = [
    Mutant("modes that are not contained", "contained(_advance)", "_advance", torch("faults", "any_line")),
    Mutant(
        "a step that PyTorch's compiler looks into",
        "untraced(_take_step)(",
        "_take_step(",
        torch("methods", "copies_inside_a_users_compile"),
    ),
    Mutant(
        "a rule may donate the state of a fresh step",
        "    _hold.raise_if_spent(holds)  # another thread may have donated it meanwhile\n    return {",
        "    return {",
        numpy("hold", "a_rule_that_donates"),
    ),
    Mutant(
        "the claim made after the writes",
        "leaves.columns, claim=claim)",
        "leaves.columns)",
        numpy("hold", "nothing_is_written_before_the_claim"),
    ),
    Mutant(
        "the claim of a repeated step made after the writes",
        "addresses, scalars, claim)",
        "addresses, scalars, _engines.claim_nothing)",
        numpy("hold", "nothing_is_written_before_the_claim"),
    ),
    Mutant(
        "memory shared with leaves that are not stepped",
        "[] if part is None else part.untouched",
        "[]",
        numpy("hold", "shares_memory_with_one_that_is_not_stepped"),
    ),
    Mutant(
        "a plan used for other leaves",
        "uniform and part == leaves.part else",
        "uniform else",
        numpy("part", "parts_in_turn"),
    ),
    Mutant(
        "a plan used for gradients of another layout",
        "uniform and part == leaves.part else",
        "part == leaves.part else",
        numpy("donate", "arrays_that_became_others"),
    ),
    Mutant(
        "a plan kept after gradients of another layout",
        "(inputs.plan, part) if uniform else (None, None)",
        "inputs.plan, part",
        kernels("made_for"),
    ),
    Mutant(
        "the scalars of the whole tree given to a part",
        "scalars.subset(part.stepped)",
        "scalars",
        jax("part", "parts_in_turn"),
    ),
    Mutant(
        "arrays that a part keeps forgotten",
        "leaves.take_tokens(before)",
        "pass",
        numpy("part", "first_state_is_gone"),
    ),
    Mutant(
        "holds not shared after a step without some gradients",
        "_hold.shared(holds, part.stepped, part.untouched)",
        "_hold.shared(holds, part.stepped, [])",
        numpy("hold", "a_state_that_shares_a_leaf"),
    ),
    Mutant(
        "arrays that are kept forgotten",
        "    new.take_tokens(leaves)\n",
        "",
        numpy("hold", "arrays_of_a_state_that_is_gone"),
    ),
    Mutant(
        "arrays that changed are not checked again",
        "leaves = leaves.checked_again()",
        "pass",
        numpy("changed", "numpys_arrays and dtype"),
    ),
    Mutant(
        "slots of 16 bits",
        "dtype = COMPUTE_DTYPE[dtype_name(p)]",
        "dtype = dtype_name(p)",
        numpy("slips", "slots_are_float32"),
    ),
    Mutant(
        "slots complex that the rule makes real",
        "is_complex(p) and not slot_is_complex(method, i)",
        "False",
        numpy("slips", "v_of_a_complex"),
    ),
    Mutant(
        "a state of another method",
        "if not isinstance(state.method, method_type):",
        "if False:",
        numpy("errors", "a_state_of_another_method"),
    ),
    Mutant(
        "a rule not traced by init", "        trace(each)  #", "        pass  #", numpy("results", "no_arithmetic_with")
    ),
]

LEAVES = [
    Mutant(
        "names of slots",
        "if set(slots) != set(method.slots):",
        "if False:",
        numpy("errors", "slots_put_together_by_hand"),
    ),
    Mutant(
        "slots put together by hand not compared with their parameters",
        "_check_leaf(namespace, p, x, spec, i, tree, root)\n                    as_complex",
        "as_complex",
        numpy("errors", "slots_put_together_by_hand"),
    ),
    Mutant(
        "a real slot that the rule makes complex",
        "if is_complex(x) != as_complex:",
        "if False:",
        numpy("errors", "a_real_slot"),
    ),
    Mutant(
        "what is known of leaves of another method",
        "same = self.method == other.method and ",
        "same = ",
        numpy("step", "may_change_between"),
    ),
    Mutant(
        "storages that were cut",
        'or (self.namespace.name == "torch" and any(map(_check.lacks_memory, arrays)))',
        "",
        torch("changed", "pytorchs_tensors and storage and foreach"),
    ),
    Mutant(
        "storages of gradients",
        '_check.backed(g, functools.partial(_tree.path, self.spec, "grads", i))',
        "pass",
        torch("changed", "pytorchs_tensors and storage and foreach"),
    ),
    Mutant(
        "scalars that NumPy makes of gradients",
        "np.asarray(g) if isinstance(g, np.generic) else g for g",
        "g for g",
        kernels("scalars_that_numpy_makes"),
    ),
    Mutant(
        "layouts of gradients", "or namespace.layout(g) != layout", "", numpy("errors", "a_gradient_that_does_not_fit")
    ),
    Mutant(
        "a gradient of another layout said to be alike",
        "                    uniform = False\n",
        "",
        numpy("donate", "arrays_that_became_others"),
    ),
    Mutant(
        "a gradient where the parameter is None",
        "                if g is not None:\n                    _tree",
        "                if False:\n                    _tree",
        numpy("errors", "a_parameter_that_is_none"),
    ),
    Mutant(
        "arrays that users get are not remembered",
        "_hold.hand_out(self.columns[k], holds, self.tokens)",
        "pass",
        numpy("hold", "states_of_the_same_arrays"),
    ),
]

PART = [
    Mutant("holds on what is no array", " if params[i] is not None])", "])", numpy("hold", "spent_alone")),
    Mutant("gradients of other leaves", "!= self.stepped:", "!= self.stepped and False:", jax("part", "parts_in_turn")),
    Mutant("others that were deleted", "any(x.is_deleted() for x in arrays)", "False", jax("part", "were_deleted")),
    Mutant(
        "others that changed",
        "None if addresses is None else (addresses + offsets, nbytes)",
        "_NOWHERE",
        torch("part", "do_not_fit_any_more or tied_meanwhile"),
    ),
    Mutant("how far others reach", "ends - starts)", "ends - ends)", torch("part", "tied_meanwhile")),
]

HOLD = [
    Mutant(
        "a claim that is not atomic",
        'return self.__dict__.setdefault("claim", donation) is donation',
        "return self.__dict__.update(claim=donation) is None",
        numpy("hold", "a_rule_that_donates"),
    ),
    Mutant(
        "a claim not given back",
        "                self.give_back()\n",
        "",
        numpy("hold", "claims_none"),
    ),
    Mutant(
        "leaves that are not stepped are claimed",
        "on.isdisjoint(self._leaves)",
        "False",
        numpy("hold", "what_is_not_written"),
    ),
    Mutant(
        "a finished step not marked",
        "self.finished, new = True",
        "self.finished, new = False",
        numpy("hold", "newer_one"),
    ),
    Mutant(
        "a chain of all steps kept alive",
        "        self._holds, self._new = {}, {}",
        "        pass",
        numpy("hold", "nothing_is_kept_alive"),
    ),
    Mutant(
        "a hold moved to other leaves",
        "old.intersection(untouched)",
        "frozenset(untouched)",
        numpy("hold", "spent_alone"),
    ),
    Mutant(
        "arrays taken for those that were in their place",
        " and known[0][k][i] is x",
        "",
        numpy("hold", "being_spent_belongs"),
    ),
    Mutant(
        "before and after turned round",
        "hold.after.number > since",
        "hold.after.number < since",
        numpy("hold", "made_of_a_result or states_of_the_same_arrays"),
    ),
]

STATE = [
    Mutant(
        "torch.distributed.checkpoint pickles DTensors in one process",
        '        check_pickled(optree.tree_leaves((fields["params"], fields["slots"])))\n',
        "",
        torch("dtensor", "state_as_a_value"),
    ),
    Mutant(
        "a step count not checked by replace",
        "fields |= {name: step_count(fields[name], name) for name in COUNTS}\n        for",
        "for",
        numpy("errors", "bad_step_count"),
    ),
    Mutant(
        "a rate not checked by replace",
        "fields[name] = rate(changes[name], leaves.spec, leaves.params)",
        "pass",
        numpy("errors", "bad_rate"),
    ),
    Mutant(
        "a step count not checked by the constructor",
        "step_count(getattr(self, name), name)",
        "getattr(self, name)",
        numpy("errors", "bad_step_count"),
    ),
    Mutant(
        "a copy of a spent state",
        'twin.__dict__["_spent_by"] = self.__dict__["_spent_by"]',
        "pass",
        numpy("hold", "stays_spent"),
    ),
    Mutant(
        "a pickle of a spent state",
        '({} if spent is None else {"_spent_by": spent})',
        "{}",
        numpy("hold", "stays_spent"),
    ),
    Mutant(
        "a state made by hand dated back",
        '"_since": _hold.now()',
        '"_since": 0',
        numpy("hold", "made_of_a_result"),
    ),
    Mutant(
        "a spent state resolved",
        'leaves, holds = fields["_known"]\n        _hold.raise_if_spent(holds)',
        'leaves, holds = fields["_known"]',
        numpy("hold", "being_spent_belongs"),
    ),
]

ALIASING = [
    Mutant("read-only arrays", "and not x.flags.writeable", "and False", numpy("errors", "read_only")),
    Mutant(
        "elements that are repeated",
        "if _overlaps_itself(namespace, x):",
        "if False:",
        numpy("errors", "broadcast_views"),
    ),
    Mutant(
        "neighbours alone compared",
        "open_spans.append(each)",
        "open_spans = [each]",
        numpy("errors", "views_that_share_memory"),
    ),
    Mutant(
        "arrays of which one is written",
        "(is_written or other_is_written)",
        "(is_written and other_is_written)",
        numpy("hold", "shares_memory_with_one_that_is_not_stepped"),
    ),
    Mutant(
        "a gradient at its parameter's address in another order",
        "own == span(namespace, p) and namespace.layout(g) == namespace.layout(p)",
        "own == span(namespace, p)",
        cupy("donate", "a_view_of_its_parameter"),
    ),
    Mutant(
        "only the last array that begins before",
        "list(itertools.accumulate([high for _, high, _ in spans], max))",
        "[high for _, high, _ in spans]",
        torch("donate", "overlaps_what_is_written and eager"),
    ),
    Mutant(
        "strides in elements",
        "n * x.itemsize for n in x.stride()",
        "n for n in x.stride()",
        torch("errors", "views_that"),
    ),
]

OPTIONS = [
    Mutant("no word of other libraries", "if option in theirs]", "if False]", numpy("mistakes", "other_libraries")),
    Mutant(
        "no word of whose it is", "if owners := _owners", "if False and _owners", numpy("mistakes", "other_libraries")
    ),
    Mutant("unknown options taken", "_check_call(door,", "(door,", numpy("mistakes", "other_libraries")),
]

SHOWN = [
    Mutant("rates not by branch", "return at(own[0])\n", "pass\n", numpy("mistakes", "by_branch or next_step")),
]

INSTEAD = [
    Mutant("modules", "isinstance(x, torch.nn.Module)", "False", torch("torch_mistakes", "in_the_place_of_trees")),
    Mutant("groups", "if _GROUP.search(path):", "if False:", numpy("mistakes", "no_parameter")),
    Mutant("what is turned", "given == shape[::-1]", "True", numpy("mistaken_arrays", "another_shape")),
    Mutant("digits of gradients", "if like and kind:", "if False:", numpy("mistaken_arrays", "another_dtype")),
]

DIFFERENCE = [
    Mutant("a prefix may not end", "    if may_end:", "    if False:", numpy("mistakes", "hyperparameters")),
    Mutant("containers taken for one another", "type(want) is not type(have)", "False", numpy("mistakes", "gradients")),
]

CHECK = [
    Mutant(
        "every step without gradients warned of at one place",
        "stacklevel=level,",
        "stacklevel=1,",
        torch("torch_mistakes", "forgotten_backward"),
    ),
    Mutant("flags", "if not isinstance(value, (bool, np.bool_)):", "if False:", numpy("mistakes", "hyperparameters")),
    Mutant("dtypes", "if dtype_name(p) not in COMPUTE_DTYPE:", "if False:", numpy("errors", "not_floating")),
    Mutant("frameworks mixed", "elif namespace.name != first.name:", "elif False:", torch("errors", "two_frameworks")),
    Mutant("sparse tensors", "if x.layout != namespace.xp.strided:", "if False:", torch("errors", "sparse")),
    Mutant(
        "where a view begins in its storage",
        "(x.storage_offset() + last + 1)",
        "(last + 1)",
        torch("changed", "views_of_a_storage"),
    ),
    Mutant(
        "where a view with gaps ends in its storage",
        "x.numel() - 1 if x.is_contiguous()",
        "x.numel() - 1 if True",
        torch("changed", "views_of_a_storage"),
    ),
    Mutant(
        "shapes",
        "x.shape != p.shape and",
        "len(x.shape) != len(p.shape) and",
        numpy("errors", "a_gradient_that_does_not_fit"),
    ),
    Mutant(
        "complex gradients of real parameters",
        'if name.startswith("complex") and not own.startswith("complex"):',
        "if False:",
        numpy("errors", "a_gradient_that_does_not_fit"),
    ),
    Mutant(
        "devices",
        "if here != there and None not in (here, there)",
        "if False",
        strict("errors", "on_another_device"),
    ),
]

NAMESPACE = [
    Mutant(
        "strides of NumPy's arrays",
        "x.shape, x.dtype, x.strides, x.flags.aligned",
        "x.shape, x.dtype, x.flags.aligned",
        numpy("donate", "arrays_that_became_others"),
    ),
    Mutant(
        "alignment of NumPy's arrays",
        "x.strides, x.flags.aligned",
        "x.strides",
        kernels("made_for"),
    ),
    Mutant(
        "dtypes of NumPy's arrays",
        "x.shape, x.dtype, x.strides, x.flags.aligned",
        "x.shape, x.strides, x.flags.aligned",
        numpy("changed", "numpys_arrays"),
    ),
    Mutant(
        "strides of tensors",
        "x.shape, x.dtype, x.stride(), x.device",
        "x.shape, x.dtype, x.device",
        torch("donate", "arrays_that_became_others"),
    ),
    Mutant(
        "a rate beyond float32 warned of",
        'np.errstate(all="ignore"):  # 1e39',
        "contextlib.nullcontext():  # 1e39",
        numpy("step", "what_float32_cannot_hold"),
    ),
    Mutant(
        "array classes with operators of their own",
        "None if base is None or has_own_arithmetic(cls, base) else",
        "None if base is None else",
        numpy("errors", "subclasses_with_other_operators"),
    ),
    Mutant(
        "a namespace object for each class",
        "    return None if base is None or has_own_arithmetic(cls, base) else _namespace(module)",
        "    return None if base is None or has_own_arithmetic(cls, base) else"
        ' Namespace(module.partition(".")[0], _compat(module))',
        numpy("subclasses", "that_are_their_numbers and eager"),
    ),
    Mutant(
        "a framework half imported",
        "    if _is_initializing(module):\n        return None\n",
        "",
        numpy("import", "half_imported"),
    ),
]

TORCH_DYNAMO = [
    Mutant("a comparison as bits", "[x.to(compute) for x in new]", "[*new]", torch("compact_rules", "users_compiled")),
    Mutant(
        "DTensors are stepped in a graph",
        'if hasattr(p, "placements") or hasattr(g, "placements"):',
        "if False:",
        torch("dtensor", "step_inside_of_torch_compile"),
    ),
]

DTENSOR = [
    Mutant(
        "a Partial parameter is taken",
        "any(placement.is_partial() for placement in p.placements)",
        "False",
        torch("dtensor", "steps and errors_name_the_leaf"),
    ),
    Mutant(
        "sums that are gradients are not taken",
        "and is_dtensor(g) and not placing.is_shared_with(g)",
        "and is_dtensor(g) and placing is None",
        Check("tests/scale/test_torch_dtensors.py", "tensor_parallel and 2"),
    ),
    Mutant(
        "a slot laid over processes in another way is taken",
        "if placing is not None and not placing.is_shared_with(x):",
        "if placing is not None and x is None:",
        torch("dtensor", "errors_name_the_leaf"),
    ),
    Mutant(
        "a gradient of another shape is taken",
        "if g.shape != placing.shape:",
        "if g.shape == ():",
        # the first process sees no difference
        Check("tests/scale/test_torch_dtensors.py", "errors_name_the_leaf and 2"),
    ),
    Mutant(
        "a derivative stops at the local tensor",
        "x.requires_grad and torch.is_grad_enabled() and not (is_param and x.is_leaf)",
        "x is None",
        torch("dtensor", "differentiated"),
    ),
    Mutant(
        "a fresh parameter requires no gradient",
        "return x if tracked else x.requires_grad_(requires_grad)",
        "return x",
        torch("dtensor", "versions"),
    ),
]

SCALARS = [
    Mutant(
        "constants of real parameters for complex ones",
        "constants[dtype in REAL_DTYPE]",
        "constants[min(constants)]",
        numpy("complex", "of_ones_own and complex64"),
    ),
    Mutant(
        "coefficients of the step after",
        "coefficients_at(method, t)",
        "coefficients_at(method, t + 1)",
        numpy("slips", "the_first_step_is_t_1"),
    ),
    Mutant(
        "rates of the step before", "rate_at(lr, t, lambda", "rate_at(lr, t - 1, lambda", numpy("step", "a_schedule")
    ),
    Mutant(
        "one decay for leaves of one rate",
        "for x in (rate, decay))",
        "for x in (rate, 0.0))",
        numpy("step", "weight_decay_of_a_tree_prefix"),
    ),
    Mutant(
        "a decay of zero where there is none",
        "1.0 if factor is None",
        "0.0 if factor is None",
        numpy("step", "weight_decay_of_a_tree_prefix"),
    ),
]

RATE = [
    Mutant(
        "decay not times the rate",
        "return rate, 1 - rate * weight_decay",
        "return rate, 1 - weight_decay",
        numpy("slips", "weight_decay_is_never_dropped"),
    ),
    Mutant(
        "a class of schedules kept",
        "return checked_schedule(value, what) if is_schedule",
        "return value if is_schedule",
        numpy("mistakes", "hyperparameters"),
    ),
    Mutant(
        "a rate that requires grad read",
        'namespace.name == "torch" and value.requires_grad:',
        'namespace.name == "torch" and False:',
        torch("torch_mistakes", "in_the_place_of_trees"),
    ),
    Mutant(
        "a schedule's rate not checked",
        'return as_rate(rate(t), lambda: f"{what()} {rate!r} at step {t}", framework, "a number")',
        "return rate(t)",
        numpy("errors", "a_schedule_that_goes_wrong"),
    ),
    Mutant("negative rates", "if number < 0:", "if False:", numpy("errors", "a_bad_rate")),
    Mutant("booleans for rates", "(bool, str, bytes)", "(str, bytes)", numpy("errors", "a_bad_rate")),
    Mutant(
        "no rate where there is no parameter",
        "0.0 if x is None is p else x",
        "x",
        numpy("tree", "none_stands_for"),
    ),
    Mutant("negative step counts", "    if count < 0:", "    if False:", numpy("errors", "bad_step_count")),
    Mutant(
        "a rate that requires grad read",
        "and not value.requires_grad",
        "",
        torch("torch", "hypergradient"),
    ),
]

NORM = [
    Mutant("the narrower dtype", "real = max(", "real = min(", numpy("norm", "widest_dtype")),
    Mutant("a limit of zero", "not limit > 0", "limit < 0", numpy("norm", "limits_that_are_not_positive")),
    Mutant(
        "a factor rounded to 16 bits",
        "first) * second, g.dtype",
        "first) * cast(kind, second, g.dtype), g.dtype",
        numpy("norm", "bits_of_ordinary"),
    ),
]

REDUCTIONS = [
    Mutant(
        "large numbers not scaled", "xp.full_like(size, powers.scale)", "xp.ones_like(size)", numpy("norm", "overflow")
    ),
    Mutant("tiny numbers not scaled", "xp.where(size < bound, power, scale)", "scale", numpy("norm", "vanish")),
    Mutant(
        "NaN ignored",
        "xp.where(xp.isfinite(scaled), second, math.nan)",
        "second",
        numpy("norm", "makes_all_nan"),
    ),
    Mutant(
        "negative numbers",
        "namespace.xp.maximum(high, -low)",
        "high",
        numpy("norm", "any_magnitudes or every_magnitude"),
    ),
    Mutant(
        "imaginary parts",
        "(namespace.xp.real(g), namespace.xp.imag(g))",
        "(namespace.xp.real(g),)",
        numpy("norm", "exact_norm"),
    ),
    Mutant("arrays without elements", "    if 0 in x.shape:", "    if False:", numpy("norm", "empty_arrays")),
]

COEFFICIENTS = [
    Mutant("two ticks a step", "return step + 1", "return step + 2", numpy("step", "a_schedule")),
    Mutant(
        "a table one row short",
        "int(changes[-1]) + 2",
        "int(changes[-1]) + 1",
        jax("coefficients", "columns_end"),
    ),
]

MODES = [
    Mutant(
        "NumPy's modes of an interrupt",
        "contextvars.copy_context().run(function, *args, **kwargs)",
        "function(*args, **kwargs)",
        numpy("modes", "interrupt"),
    ),
    Mutant(
        "PyTorch's mode of an interrupt",
        "torch.set_grad_enabled(gradients)",
        "pass",
        torch("modes", "interrupt"),
    ),
    Mutant(
        "JAX's mode of an interrupt",
        "width.set_local(wide)",
        "pass",
        jax("modes", "interrupt"),
    ),
]

XLA_PLAN = [
    Mutant(
        "gradients of other dtypes",
        " or [*map(_aval, grads)] != self.avals",
        "",
        jax("jax_plan", "errors or other_gradients"),
    ),
    Mutant("arrays of other frameworks", "{*map(type, grads)} != self.classes or ", "", jax("jax_plan", "errors")),
    Mutant("what the program refuses", "raise UnlikeError from error", "raise", jax("jax_plan", "errors")),
    Mutant(
        "a state that was given away",
        "if alike and not arrays[-1].is_deleted()",
        "if alike",
        jax("jax_plan", "given_away"),
    ),
    Mutant(
        "a fresh step by the program of a donated one",
        "return donate, scalars.has_decay",
        "return scalars.has_decay, scalars.has_decay",
        jax("jax_plan", "in_turn"),
    ),
    Mutant("a claim after the buffers were given away", "        claim()\n", "", jax("interrupts", "two_threads")),
]

ON_IMPORT = [
    Mutant(
        "nothing done after an import",
        "                do(module)\n",
        "                pass\n",
        torch("state", "torch_pytree"),
    ),
    Mutant(
        "nothing done where the import is over",
        "    if module is not None:\n        do(module)\n        return",
        "    if module is not None:\n        return",
        torch("registration", "any_order"),
    ),
    Mutant(
        "a finder that asks itself",
        "finder is not self and (spec",
        "(spec",
        torch("registration", "any_order"),
    ),
]

TORCH_COHORT = [
    Mutant(
        "states that were replaced not seen",
        "None in states or ",
        "",
        torch("torch_optim", "what_a_user_changes"),
    ),
    Mutant(
        "counts that were replaced not seen",
        'not all(map(operator.is_, [state.get("step") for state in states], self.steps))',
        "False",
        torch("torch_optim", "what_a_user_changes"),
    ),
    Mutant(
        "slots kept alive between steps",
        "self.leaves = leaves.renewed([])",
        "self.leaves = leaves",
        torch("torch_optim", "memory_that_is_let_go"),
    ),
    Mutant(
        "one count for all parameters",
        "if counts.count(counts[0]) == len(counts)",
        "if True",
        torch("torch_optim", "the_steps_are_pytorchs"),
    ),
    Mutant(
        "parameters without a gradient counted",
        "stepped if len(stepped) < len(counts) else slice(None)",
        "slice(None)",
        torch("torch_optim", "the_steps_are_pytorchs"),
    ),
    Mutant(
        "decay twice",
        'decay = group["weight_decay"] if group["decoupled_weight_decay"] else 0.0',
        'decay = group["weight_decay"]',
        torch("torch_optim", "the_steps_are_pytorchs"),
    ),
    Mutant(
        "a plan kept for another rule",
        "                self.leaves.plan = None\n",
        "                pass\n",
        torch("torch_optim", "a_rule_that_changes"),
    ),
    Mutant(
        "complex numbers by their magnitude",
        "if x is not None and x.is_complex() else x",
        "if False else x",
        torch("torch_optim", "complex_parameters"),
    ),
]

TORCH_OPTIMIZER = [
    Mutant(
        "a group that is wrong kept",
        "            del self.param_groups[-1]\n",
        "",
        torch("torch_optim", "bad_arguments"),
    ),
]

TORCH_SCALER = [
    Mutant("gradients still scaled", "(1.0 / scale, 1.0)", "(1.0, 1.0)", torch("torch_optim", "scales_and_overflows")),
    Mutant("a step after an overflow", "return not found_inf,", "return True,", torch("torch_optim", "overflows")),
    Mutant(
        "a device's answer turned round",
        "taken = found_inf == 0",
        "taken = found_inf != 0",
        torch("torch_optim", "nobody_waits"),
    ),
    Mutant("tensors read", "if is_free_to_read(namespace, x)", "if True", torch("torch_optim", "nobody_waits")),
]

TAKEN = [
    Mutant(
        "steps that are not taken count",
        "return step, next_step(skipped)",
        "return step + 1, skipped",
        numpy("where", "every_dtype"),
    ),
    Mutant(
        "steps that a device did not take count",
        "return step + taken, skipped + (1 - taken)",
        "return step + 1, skipped + (1 - taken)",
        torch("where", "not_read"),
    ),
    Mutant("any array for an answer", 'if dtype_name(where) != "bool":', "if False:", numpy("where", "no_answer")),
    Mutant("an array of answers", "if tuple(where.shape) != ():", "if False:", numpy("where", "no_answer")),
    Mutant(
        "no clipping in the step",
        "if options.max_norm is not None and where",
        "if False and where",
        numpy("where", "clipped_in_the_step"),
    ),
    Mutant(
        "products rounded once less",
        "if all(g is None or p is None or clip.is_exact(g, p) for g, p in zip(gradients, leaves.params, strict=True)):",
        "if True:",
        numpy("where", "clipped_in_the_step"),
    ),
    Mutant(
        "an answer of the norm where there is none",
        "if where is all_finite and clip.is_finite:",
        "if where is all_finite:",
        numpy("where", "every_dtype"),
    ),
]

NUMBA_READ = [
    Mutant("a sum without its last block", "found = 0.0", "found = -1.0", numpy("norm", "formula")),
    Mutant(
        "a bound that lets infinity pass", "not (abs({}) < bound)", "abs({}) > 2 * bound", numpy("where", "squares")
    ),
    Mutant("NaN within the bound", "not (abs({}) < bound)", "abs({}) >= bound", numpy("where", "squares")),
    Mutant("half of complex numbers", "parts = 2 if storage != name else 1", "parts = 1", numpy("where", "squares")),
    Mutant("the last part of a block", "range(STREAMS)]", "range(STREAMS - 1)]", numpy("where", "every_part")),
    Mutant("gaps read", "is_dense(x.shape, x.stride()))", "True)", torch("where", "gaps")),
]

TORCH_CUDA = [
    Mutant(
        "the default stream", "stream = _stream(self.stream(device))", "stream = _stream(0)", cuda("current_stream")
    ),
    Mutant("a CuPy that fails", "        pass_over(NAME, error)\n", "        raise\n", cuda("costs_speed_alone")),
]

DENSE = [
    Mutant("gaps in tensors", " and is_dense(x.shape, x.stride())", "", torch("donate", "any_layout")),
]

TORCH_SORTED = [
    Mutant(
        "a late parameter forgotten",
        "        if any(gradients[i] is not None for i in self.absent):\n            return False\n",
        "",
        torch("torch_optim", "the_steps_are_pytorchs"),
    ),
    Mutant(
        "slots of 16 bits",
        "dtype=slot_dtype(p), memory_format",
        "dtype=p.dtype, memory_format",
        torch("torch_optim", "checkpoints or functional_core"),
    ),
    Mutant(
        "a parameter that changes its group",
        "        if owners != self.owners:\n            return False\n",
        "",
        torch("torch_optim", "moves_to_another_group"),
    ),
    Mutant(
        "counts on a default device", ', device="cpu")', ")", torch("torch_optim", "default_device_changes_nothing")
    ),
]

TORCH_CHECKPOINT = [
    Mutant(
        "a checkpoint's own tensors",
        "dtype, copy=True)",
        "dtype)",
        torch("torch_optim", "test_checkpoints"),
    ),
    Mutant(
        "another method's checkpoint",
        'if found is None and (averages or name != "momentum_buffer"):',
        "if False:",
        torch("torch_optim", "another_method_changes_nothing"),
    ),
]

TORCH_USE = [
    Mutant(
        "a group of before",
        'any(each is p for group in optimizer.param_groups[k : k + 1] for each in group["params"][i : i + 1])',
        "id(p) in places",
        torch("torch_optim", "looks_at_its_own_parameter or frozen_parameters"),
    ),
    Mutant(
        "all groups for each parameter",
        "optimizer._advance(id(p), [p], [k])",
        "optimizer._advance_all()",
        torch("torch_optim", "looks_at_its_own_parameter"),
    ),
]

TORCH_RULES = [
    Mutant(
        "maximised decay", "            g = -g\n", "            pass\n", torch("torch_optim", "the_steps_are_pytorchs")
    ),
]

OPTAX_TRANSFORMATION = [
    Mutant(
        "the sign of zero", "jnp.full_like(x, zero,", "jnp.full_like(x, 0.0,", optax("as_optax", "without_decay_a_step")
    ),
    Mutant(
        "decay of nothing",
        "_origin(x, g, params is not None, reads or each)",
        "_origin(x, g, params is not None, reads)",
        optax("as_optax", "with_decay_it_is"),
    ),
    Mutant("optax's count", "return rate(t)", "return rate(count)", optax("as_optax", "schedules_of_both_kinds")),
    Mutant(
        "a rule that reads its parameter",
        "reads = not all(trace(each).translates for each in methods)",
        "reads = False",
        optax("as_optax", "a_rule_that_reads"),
    ),
]

OPTAX_STATE = [
    Mutant("gradients lost", "and int(each.mini_step):", "and False:", optax("state_from_optax", "multisteps")),
    Mutant("slots as they were", ".astype(like.dtype)", "", optax("state_from_optax", "slots_have_the_dtypes")),
]

NUMBA_MEMORY = [
    Mutant(
        "a modulus that is NaN beside an infinity",
        "if abs(a) == np.inf or abs(b) == np.inf else found",
        "if a == np.inf else found",
        numpy("complex", "modulus"),
    ),
    Mutant(
        "a gradient that begins before what is written",
        "starts[middle] < addresses[i] + nbytes[i]",
        "starts[middle] <= addresses[i]",
        numpy("donate", "overlaps_what_is_written"),
    ),
]

NUMBA = [
    Mutant(
        "memory shared with leaves that are not stepped",
        "(untouched is not None and meet(*untouched, starts, ends))",
        "False",
        torch("part", "tied_meanwhile"),
    ),
    Mutant(
        "two parameters of one memory",
        "if not are_apart or (",
        "if (",
        torch("changed", "became_another_one"),
    ),
    Mutant(
        "a gradient within a long array",
        "np.maximum.accumulate((written + self.nbytes[self.count :])[order])",
        "(written + self.nbytes[self.count :])[order]",
        numpy("donate", "overlaps_what_is_written"),
    ),
    Mutant("threads after a fork", "        self.forks += 1", "        pass", kernels("forked_child")),
    Mutant("the pool's lock not taken", "with pool.lock:", "if True:", kernels("take_turns")),
    Mutant(
        "a plan used for other rates",
        "return donate, scalars.has_decay, scalars.rate_index, pool.forks",
        "return donate, True, None, pool.forks",
        numpy("step", "may_change_between"),
    ),
    Mutant(
        "a plan used for other rates of as many leaves",
        "return donate, scalars.has_decay, scalars.rate_index, pool.forks",
        "return donate, scalars.has_decay, None, pool.forks",
        numpy("step", "may_change_between"),
    ),
    Mutant(
        "gradients that are written not copied",
        "clashes = sorted(overlapping(namespace, grads, columns[0], [*chain(*columns)]))",
        "clashes = []",
        numpy("donate", "a_gradient_that_is_another_parameter"),
    ),
    Mutant(
        "gradients read by another engine after the writes",
        "    if plan.fallback and donate:\n",
        "    if False:\n",
        numpy("donate", "stepped_by_other_means"),
    ),
    Mutant("byte order", " or not x.dtype.isnative", "", numpy("changed", "numpys_arrays and byte")),
    Mutant("alignment", "not flags.aligned or ", "", kernels("made_for")),
    Mutant(
        "one array in C's order, the other in Fortran's",
        "in_c or (not in_order and flags.f_contiguous and p.flags.f_contiguous)",
        "flags.c_contiguous or flags.f_contiguous",
        numpy("donate", "layout"),
    ),
    Mutant(
        "the first rate for all leaves",
        "[key[2][i] for i in leaves]",
        "[0 for i in leaves]",
        numpy("slips", "each_leaf_has_its_own_rate"),
    ),
    Mutant("no claim", "        claim()\n", "", numpy("hold", "nothing_is_written_before_the_claim")),
    Mutant(
        "leaves in the order of their engines",
        "put(new, plan.in_kernel, inputs.columns)",
        "put(new, range(len(plan.in_kernel)), inputs.columns)",
        numpy("step", "leaves_of_different_dtypes"),
    ),
]

SIGNATURES = [
    Mutant(
        "storages kept alive between steps",
        "[weakref.ref(x) for x in storages]",
        "[lambda x=x: x for x in storages]",
        torch("torch_optim", "memory_that_is_let_go"),
    ),
    Mutant(
        "tensors not compared with those of the last step",
        " or not self._guards.check(*arrays)",
        "",
        torch("changed", "pytorchs_tensors and double and guarded"),
    ),
    Mutant(
        "the storage's size",
        "        if False in [",
        "        if None in [",
        torch("changed", "pytorchs_tensors and storage and guarded"),
    ),
    Mutant(
        "the size of a storage that stayed in its place",
        " and [(x := r()) is not None and x.nbytes() for r in references] == sizes\n",
        "\n",
        torch("changed", "pytorchs_tensors and storage and guarded"),
    ),
    Mutant(
        "the modes of a thread",
        "self._interpreters() is None and bool(self._guard.check(x))",
        "True",
        torch("torch", "vmap or func or inference"),
    ),
    Mutant(
        "whether a tensor requires gradients",
        "return found if [x.requires_grad for x in arrays] == self._requires_grad else None",
        "return found",
        torch("changed", "pytorchs_tensors and requires_grad"),
    ),
]

NUMBA_TENSORS = [
    Mutant("the class", "peek(x + CLASS) != row[0]", "False", kernels("known_again")),
    Mutant("dispatch keys", " or peek(tensor + where[_KEYS]) != row[1]", "", kernels("known_again")),
    Mutant("the dtype", "(peek(tensor + where[_DTYPE]) & _SHORT) != row[2]", "False", kernels("known_again")),
    Mutant("how many dimensions", " or peek(tensor + where[_NDIM]) != ndim", "", kernels("known_again")),
    Mutant("the sizes", "peek(sizes + 8 * j) != row[6 + j] or ", "", kernels("known_again")),
    Mutant("the strides", " or peek(strides + 8 * j) != row[6 + ndim + j]", "", kernels("known_again")),
    Mutant("the storage's size", " or start + row[5] > peek(storage + where[_NBYTES])", "", kernels("known_again")),
    Mutant("lazy copies", "peek(storage + where[_FLAGS]) & where[_IS_LAZY]", "False", kernels("known_again")),
    Mutant("where a view begins", "where[_DATA]) + start\n", "where[_DATA])\n", kernels("known_again")),
    Mutant(
        "how many there are",
        "    if len(tensors) != len(signatures):\n        return None\n",
        "",
        kernels("known_again"),
    ),
]

NUMBA_DISTINCT = [
    Mutant("an object that stands twice", "if seen[place] == x:", "if False:", kernels("two_places")),
]

NUMPY_ABI = [
    Mutant("the type", "peek(x + CLASS) != row[0] or ", "", kernels("known_again")),
    Mutant("the dtype", " or peek(x + _DTYPE) != row[1]", "", kernels("known_again")),
    Mutant("the shape", "peek(shape + 8 * j) != row[4 + j] or ", "", kernels("known_again")),
    Mutant("the strides", " or peek(strides + 8 * j) != row[4 + ndim + j]", "", kernels("known_again")),
    Mutant("the flag of alignment", "0x1 | 0x2 | 0x100 | 0x400", "0x1 | 0x2 | 0x400", kernels("known_again")),
    Mutant("the flag of what is writable", "0x1 | 0x2 | 0x100 | 0x400", "0x1 | 0x2 | 0x100", kernels("known_again")),
    Mutant(
        "how many there are",
        "    if len(arrays) != len(signatures):\n        return None\n",
        "",
        kernels("known_again"),
    ),
]

NUMBA_COMPILE = [
    Mutant(
        "slots of another dtype",
        "if [*map(dtype_name, slots)] == slot_dtypes(storage[0]) else None",
        "if True else None",
        torch("changed", "pytorchs_tensors and double"),
    ),
    Mutant(
        "gradients computed in their own precision",
        "or len({*map(real_compute_dtype, storage)}) > 1:",
        "or False:",
        numpy("step", "gradients_in_another_precision"),
    ),
    Mutant(
        "operations on complex numbers that have no form in reals",
        "if can_be_lowered(program) else None",
        "if True else None",
        numpy("complex", "left_to_the_framework"),
    ),
    Mutant(
        "the last block",
        "[-(-size // BLOCK) for size in sizes]",
        "[size // BLOCK for size in sizes]",
        numpy("step", "without_memory"),
    ),
]

RENDER = [
    Mutant("less for less or equal", '"le": "{} <= {}"', '"le": "{} < {}"', numpy("results", "whatever and equal")),
]

NUMBA_SOURCE = [
    Mutant(
        "vectors of half the width",
        "    if program.rounded:\n        lines.insert",
        "    if False:\n        lines.insert",
        numpy("compact_rules", "widest"),
    ),
    Mutant(
        "a last piece that is not whole left where it was",
        "copy_{x}(to_{x}, at_{x}_new + start * {n}, count * {n})",
        "copy_{x}(to_{x}, at_{x}_new + start * {n}, (count - 1) * {n})",
        numpy("memory_pool", "have_the_bits and numba"),
    ),
    Mutant(
        "pieces stored to where the first one belongs",
        "flush_{x}(to_{x}, at_{x}_new + start * {n})",
        "flush_{x}(to_{x}, at_{x}_new)",
        numpy("memory_pool", "have_the_bits and numba"),
    ),
    Mutant(
        "the other branch of where",
        '"{1} if {0} else {2}"',
        '"{2} if {0} else {1}"',
        numpy("results", "whatever and scalars"),
    ),
    Mutant("the last element", "{BLOCK}, sizes[leaf])", "{BLOCK}, sizes[leaf] - 1)", numpy("step", "without_memory")),
    Mutant(
        "the real part in the place of the imaginary one",
        'f"{name}_im": ", 1"}',
        'f"{name}_im": ", 0"}',
        numpy("complex", "the_bits_of_the_rule and momentum"),
    ),
    Mutant(
        "real gradients with an imaginary part",
        'f"{name}_im = zero"',
        'f"{name}_im = one"',
        numpy("complex", "real_gradients"),
    ),
]

EVALUATE = [
    Mutant("a temporary that is still needed", "if last[y] == i and", "if", numpy("evaluate", "every_rule")),
    Mutant(
        "a choice written over what it reads",
        'if x.name != "where":  # which',
        "if True:  # which",
        numpy("evaluate", "every_rule"),
    ),
]

EAGER = [
    Mutant(
        "a comparison as bits",
        "[namespace.cast(x, compute) for x in results]",
        "[*results]",
        torch("compact_rules", "comparisons"),
    ),
    Mutant(
        "gradients said to share no memory after a step that copied them",
        "None if any(x is not y for x, y in zip(grads, inputs.grads, strict=True)) else addresses",
        "addresses",
        torch("donate", "overlaps_what_is_written and numba"),
    ),
    Mutant(
        "an input that is written before it is passed on",
        "[x.copy() if aliases else x for x",
        "[x for x",
        numpy("results", "whatever and twice and eager"),
    ),
    Mutant(
        "no claim", "            inputs.claim()\n", "            pass\n", numpy("hold", "before_the_claim and eager")
    ),
    Mutant(
        "what a rule passes on not copied",
        "passed and namespace.name in WRITABLE for passed",
        "False for passed",
        numpy("results", "memory_of_its_own"),
    ),
    Mutant(
        "large leaves not rehearsed",
        "                _rehearse(inputs, leaf)\n",
        "",
        numpy("donate", "a_rule_that_fails_at_once"),
    ),
    Mutant(
        "real slots computed as complex ones",
        'dtype if domain == "complex" else real',
        "dtype",
        numpy("slips", "v_of_a_complex"),
    ),
    Mutant(
        "blocks of arrays in different order",
        "in_c or (not in_c_order and all(x.flags.f_contiguous for x in arrays))",
        "True",
        numpy("donate", "large_arrays_of_any_layout"),
    ),
    Mutant(
        "a gradient of 16 bits computed in 16 bits",
        "lr, decay, c, namespace.cast(g, compute)",
        "lr, decay, c, g",
        numpy("step", "gradients_in_another_precision"),
    ),
    Mutant(
        "gradients that are written not copied",
        "inputs.namespace.copy(g) if i in clashes else g",
        "g",
        numpy("donate", "overlaps_what_is_written and eager"),
    ),
    Mutant(
        "numbers that a rule returns",
        "    if namespace_of(x) is not namespace:",
        "    return x\n    if namespace_of(x) is not namespace:",
        numpy("results", "whatever_a_rule_returns and eager"),
    ),
    Mutant(
        "scalars that NumPy makes of 0-d results",
        "new = np.asarray(new)",
        "pass",
        numpy("step", "no_dimensions and eager"),
    ),
    Mutant(
        "infinities warned of",
        'elsewhere\n    with np.errstate(all="ignore"), ',
        "elsewhere\n    with ",
        numpy("step", "what_float32_cannot_hold"),
    ),
]

TORCH = [
    Mutant(
        "conjugate views",
        ".resolve_conj().resolve_neg()",
        ".resolve_neg()",
        torch("complex", "say_what_is_to_be_made"),
    ),
    Mutant(
        "steps that are differentiated",
        "if not donate and _is_differentiated(torch, inputs):",
        "if False:",
        torch("torch", "differentiating_through"),
    ),
    Mutant(
        "autograd not told of writes",
        "    if any(p is q for p, q in zip(old[0], new[0], strict=True)):\n",
        "    if False:\n",
        torch("torch_engines", "donated_step_is_known_to_autograd"),
    ),
    Mutant(
        "results that require no gradients",
        "        if q.requires_grad:\n",
        "        if False:\n",
        torch("torch_engines", "requires_grad_where"),
    ),
    Mutant(
        "lazy negatives",
        "True not in [x.is_neg() or x.is_conj() for x in tensors]",
        "True",
        torch("torch_engines", "lazy_negative"),
    ),
    Mutant(
        "a plan of another engine",
        'elif plan is None or (plan.choice, plan.engine == "numba") != (choice, kernels is not None):',
        "elif plan is None:",
        torch("torch_engines", "take_turns"),
    ),
    Mutant(
        "tensors of inference mode",
        "if donate and any(map(_lacks_version, inputs.written)) else no_grad",
        "if False else no_grad",
        torch("torch", "inference_mode"),
    ),
]

SCIPY = [
    Mutant(
        "the last iterate returned", "        if lowest:\n", "        if True:\n", scipy("best_iterate_is_returned")
    ),
    Mutant(
        "the first gradient within gtol ends it",
        "if within >= (1 if lowest else _PATIENCE):",
        "if within:",
        scipy("success_is_of_the_best"),
    ),
    Mutant("iterations within gtol not in a row", "within + 1 if", "0 if", scipy("success or settling")),
    Mutant(
        "the state's own array given to fun",
        "self.fun(np.copy(x), *self.args)",
        "self.fun(x, *self.args)",
        scipy("theirs"),
    ),
    Mutant("jac's own array kept", "np.copyto(best.jac, g)", "best.jac = g", scipy("best_iterate_is_returned")),
    Mutant("tol before gtol", "(gtol, tol, 1e-5)", "(tol, gtol, 1e-5)", scipy("tol_does_something")),
    Mutant(
        "the value evaluated again",
        "f if np.array_equal(z, x) else self.value(z)",
        "self.value(z)",
        scipy("finite_differences"),
    ),
    Mutant("what is unknown handed on", '**{"lr": 1e-2, **known}', '**{"lr": 1e-2, **options}', scipy("callers_line")),
]

TORCH_LISTS = [
    Mutant(
        "a plan used for other rates",
        "return donate, scalars.rate_index, tuple(",
        "return donate, *tuple([])[:0]  # ",
        torch("step", "may_change_between and numba"),
    ),
    Mutant(
        "gradients that are written not copied",
        "grads, plan.disjoint = disjoint_unless(plan.disjoint, addresses, inputs)",
        "grads = inputs.grads",
        torch("donate", "overlaps_what_is_written and numba"),
    ),
    Mutant("no claim", "    claim()\n    for old", "    for old", torch("hold", "before_the_claim and numba")),
    Mutant(
        "one rate for all calls",
        "device, rates",
        "device, ()",
        torch("torch_engines", "too_large_to_be_stepped_together"),
    ),
    Mutant(
        "leaves with and without decay together",
        "inputs.scalars.decays(i), fused)",
        "False, fused)",
        torch("torch_engines", "too_large_to_be_stepped_together"),
    ),
]

TORCH_PROGRAM = [
    Mutant(
        "what a rule passes on not copied",
        "_copy(values[x]) if aliases else values[x]",
        "values[x]",
        torch("results", "memory_of_its_own and numba"),
    ),
    Mutant(
        "temporaries kept",
        "                del values[x]",
        "                pass",
        torch("torch_engines", "each_operation_is_one_call"),
    ),
    Mutant(
        "differences turned round",
        '("add", "mul", "minimum"',
        '("add", "sub", "mul", "minimum"',
        torch("results", "whatever and left and numba"),
    ),
    Mutant(
        "results in the compute dtype",
        "_cast(_like(x, y), x[0].dtype)",
        "_like(x, y)",
        torch("results", "whatever_a_rule_returns and numba"),
    ),
    Mutant(
        "the other branch of where",
        "1 if operands[0] else 2",
        "2 if operands[0] else 1",
        torch("torch_engines", "lists_step_as and radam and float32"),
    ),
    Mutant(
        "real slots computed as complex ones",
        'dtype if domain == "complex" else real',
        "dtype",
        torch("torch_engines", "lists_step_as and complex64"),
    ),
]

PROGRAM_DATA = [
    Mutant(
        "one result twice",
        " or x in self.outputs[:i]",
        "",
        numpy("results", "memory_of_its_own and eager"),
    ),
    Mutant(
        "a part of another result",
        "in {*parts, *self.outputs}",
        "in parts",
        numpy("results", "memory_of_its_own and eager"),
    ),
    Mutant(
        "parts of complex inputs passed on",
        'operation.name in ("real", "imag")',
        "False",
        numpy("results", "memory_of_its_own and eager"),
    ),
    Mutant("a slot of the new parameter", "& {*self.outputs[1:]}", "& {*()}", numpy("rules", "which_rules_move")),
    Mutant("what is taken from", 'and operands[0] == "p")', ")", numpy("rules", "which_rules_move")),
    Mutant("twice the parameter", 'operands.count("p") == 1', "True", numpy("rules", "which_rules_move")),
]

SYMBOLS = [
    Mutant("the sign of zero", "={float(x)!r}", "={float(x) + 0.0!r}", numpy("results", "whatever and zeros")),
    Mutant(
        "hyperparameters that are equal by chance taken for one",
        "x.origin if isinstance(x, Hyperparameter) else _literal(x)\n        self",
        "_literal(x)\n        self",
        numpy("methods", "equal_by_chance"),
    ),
    Mutant(
        "arithmetic of hyperparameters turned round",
        "pair = (other, self) if swapped else (self, other)",
        "pair = (self, other)",
        numpy("methods", "equal_by_chance"),
    ),
    Mutant(
        "arithmetic with comparisons",
        'x.domain == "bool" for x in numbers',
        "False for x in numbers",
        numpy("results", "no_arithmetic_with"),
    ),
    Mutant("other powers", "if exponent != 2:", "if False:", numpy("results", "no_powers")),
    Mutant(
        "operands turned round",
        "*((other, self) if swapped else (self, other))",
        "*(self, other)",
        numpy("results", "whatever and left"),
    ),
]

LOWER = [
    Mutant("the sign of an imaginary part", 'self._do("sub", a[1] or ZERO, b[1])', "a[1] or b[1]", lower()),
    Mutant(
        "the sign of a zero beside a real number",
        'self._do("add", a[1] or ZERO, b[1] or ZERO)',
        '(a[1] or b[1]) if a[1] is None or b[1] is None else self._do("add", a[1], b[1])',
        numpy("complex", "too_odd and complex64"),
    ),
    Mutant(
        "a product without its second half",
        'b_re), self._do("mul", a_im, b_im))\n        return re, self._do("add"',
        'b_re), ZERO)\n        return re, self._do("add"',
        lower(),
    ),
    Mutant("the real part where numbers are compared", 'self._do("and", *(', "next(iter(", lower()),
    Mutant("a modulus without its imaginary part", 'self._do("hypot", a[0], a[1])', 'self._do("abs", a[0])', lower()),
]

TRACE = [
    Mutant("slots complex through another slot", "if found == slots:", "if True:", numpy("slips", "v_of_a_complex")),
]

NUMBA_CACHE = [
    Mutant(
        "a damaged file",
        "data[:_DIGEST] != _checksum(key, payload)",
        "False",
        numpy("cache", "damaged_files and zeros"),
    ),
    Mutant(
        "another function's file",
        "hashlib.sha256(key).digest() + payload",
        "payload",
        numpy("cache", "under_another_s_name"),
    ),
    Mutant(
        "links",
        'getattr(os, "O_NOFOLLOW", 0)',
        "0",
        numpy("cache", "damaged_files and to_nothing or damaged_files and link"),
    ),
    Mutant("another processor's code", ", codegen.magic_tuple()))", "))", numpy("cache", "another_processor")),
    Mutant(
        "folders that all may write",
        "stat.S_IWGRP | stat.S_IWOTH",
        "stat.S_IWGRP",
        numpy("cache", "another_user_could_write"),
    ),
    Mutant(
        "files that are written as others read them",
        'draft = f"{path.name}.{secrets.token_hex(8)}"',
        "draft = path.name",
        numpy("cache", "dies_while_it_writes"),
    ),
]

CHECKPOINT_FILE = [
    Mutant(
        "a name before the disk", "        _sync(draft, os.O_RDWR)\n", "", numpy("checkpoint_files", "order_of_writes")
    ),
    Mutant("links replaced", "os.fsdecode(path)).resolve()", "os.fsdecode(path))", numpy("checkpoint_files", "links")),
    Mutant(
        "headers of any length",
        "    if size > limit:",
        "    if False:",
        numpy("checkpoint_files", "huge_header"),
    ),
    Mutant(
        "metadata without their checksum",
        "if metadata.get(DIGEST) != _digest(text):",
        "if False:",
        numpy("checkpoint_files", "damaged_files"),
    ),
]

CHECKPOINT_MATCH = [
    Mutant(
        "memory that is shared",
        "host.copy() if held.is_shared else host",
        "host",
        numpy("checkpoint", "nothing_is_shared"),
    ),
    Mutant(
        "shapes that differ",
        "    if found != shape:",
        "    if False:",
        numpy("checkpoint", "leaves_that_differ"),
    ),
]

XLA = [
    Mutant("gradients that lie as they did", "return jax.reshard(g, there) if", "return g if", mesh()),
]

XLA_MESH = [
    Mutant("gradients for parameters", "*columns, grads = ([*x[i", "grads, *columns = ([*x[i", mesh()),
    Mutant("the results of a leaf as a column", "new[k * leaves : (k + 1) * leaves]", "new[k::width]", mesh()),
]

SHAPES = [
    Mutant(
        "what is neither shape nor array", "[p if x is None else x for p, x", "[x for p, x", jax("jax", "state_before")
    ),
]

RECYCLED = [
    Mutant(
        "memory that is lent twice",
        "memory = some.pop() if some",
        "memory = some[-1] if some",
        numpy("memory_pool", "nothing_that_is_seen and numba"),
    ),
    Mutant(
        "what is seen taken for free",
        "if n <= _ALONE]",
        "if n <= _ALONE + 1]",
        numpy("memory_pool", "nothing_that_is_seen and numba"),
    ),
    Mutant(
        "an array that does not keep its loan",
        "array = np.asarray(loan)",
        'array = np.asarray(type("Memory", (), {"__array_interface__": loan.__array_interface__})())',
        numpy("memory_pool", "nothing_that_is_seen and numba"),
    ),
    Mutant(
        "memory that a child shares",
        "mmap.MAP_PRIVATE | mmap",
        "mmap.MAP_SHARED | mmap",
        numpy("memory_pool", "a_child_writes"),
    ),
    Mutant("more idle than is lent", "is_old or room < 0", "is_old", numpy("memory_pool", "what_is_kept and numba")),
    Mutant(
        "idle memory that stays for ever",
        "is_old or room < 0",
        "room < 0",
        numpy("memory_pool", "what_is_kept and numba"),
    ),
    Mutant(
        "tensors that are views",
        "x.stride()).data",
        "x.stride())",
        torch("memory_pool", "tensors_are_ordinary and numba"),
    ),
]

ROUNDING = [
    Mutant("a random bit too few", "0xFFFF)", "0x7FFF)", numpy("compact", "oracle or bias")),
    Mutant("one hash for all", "first_counter(n // 2 + 1)", "first_counter(1)", numpy("compact", "oracle")),
    Mutant("leaves counted alike", "return leaf * GOLDEN % 2**32", "return 0 * leaf", numpy("compact", "oracle")),
    Mutant(
        "late steps as early ones", 'do("mul32", high, 1 << 16)', 'do("mul32", high, 0)', numpy("compact", "oracle")
    ),
    Mutant(
        "the largest rounded to infinity",
        '"lt32", magnitude, _LARGEST',
        '"lt32", magnitude, _INFINITY',
        numpy("compact", "oracle"),
    ),
    Mutant("a NaN taken for a quiet one", "if not is_quiet:", "if False:", numpy("compact", "signalling")),
    Mutant("all taken for quiet", "or quiet.issuperset(", "or bool(", numpy("compact", "signalling")),
]

COMPACT = [
    Mutant(
        "another method stores in float32",
        "return stored_as(x, compact)\n\n    return _mapped(kept",
        "return x\n\n    return _mapped(kept",
        numpy("compact", "hang_on"),
    ),
    Mutant("any dtype of slots", 'name in compact and dtype != "bfloat16"', "False", numpy("compact", "cannot_be")),
    Mutant(
        "slots rounded to nearest",
        'name not in compact and dtype == "bfloat16"',
        "False",
        numpy("compact", "cannot_be"),
    ),
    Mutant("another storage", "x.compact and x.compact != compact", "False", numpy("compact_changes", "by_hand")),
    Mutant("None that keeps", "changes[name] or wide", "changes[name]", numpy("compact_changes", "goes_on")),
    Mutant("counts that wrap", 'in ("int8", "uint8", "int16", "uint16")', "in ()", jax("compact_rules", "few_bits")),
    Mutant("half a step", "float(t % 65536)", "float(t % 65535)", numpy("compact", "oracle")),
]

MUTANTS: Mutants = {
    f"{PACKAGE}/_options.py": OPTIONS,
    f"{PACKAGE}/_tree.py": SHOWN,
    f"{PACKAGE}/_instead.py": INSTEAD,
    f"{PACKAGE}/_difference.py": DIFFERENCE,
    f"{PROGRAM}/rounding.py": ROUNDING,
    f"{PACKAGE}/_compact.py": COMPACT,
    f"{PACKAGE}/_shapes.py": SHAPES,
    f"{ENGINES}/xla.py": XLA,
    f"{ENGINES}/xla_mesh.py": XLA_MESH,
    f"{PACKAGE}/checkpoint/_file.py": CHECKPOINT_FILE,
    f"{PACKAGE}/checkpoint/_match.py": CHECKPOINT_MATCH,
    f"{PACKAGE}/_step.py": STEP,
    f"{PACKAGE}/_leaves.py": LEAVES,
    f"{PACKAGE}/_part.py": PART,
    f"{PACKAGE}/_hold.py": HOLD,
    f"{PACKAGE}/_state.py": STATE,
    f"{PACKAGE}/_taken.py": TAKEN,
    f"{PACKAGE}/_aliasing.py": ALIASING,
    f"{PACKAGE}/_check.py": CHECK,
    f"{PACKAGE}/_namespace.py": NAMESPACE,
    f"{PACKAGE}/_rate.py": RATE,
    f"{PACKAGE}/_scalars.py": SCALARS,
    f"{PACKAGE}/scipy.py": SCIPY,
    f"{PACKAGE}/optax/_state.py": OPTAX_STATE,
    f"{PACKAGE}/optax/_transformation.py": OPTAX_TRANSFORMATION,
    f"{PACKAGE}/_dtensor.py": DTENSOR,
    f"{ENGINES}/torch_dynamo.py": TORCH_DYNAMO,
    f"{PACKAGE}/torch/_checkpoint.py": TORCH_CHECKPOINT,
    f"{PACKAGE}/torch/_cohort.py": TORCH_COHORT,
    f"{PACKAGE}/torch/_optimizer.py": TORCH_OPTIMIZER,
    f"{PACKAGE}/torch/_rules.py": TORCH_RULES,
    f"{PACKAGE}/torch/_scaler.py": TORCH_SCALER,
    f"{PACKAGE}/torch/_sorted.py": TORCH_SORTED,
    f"{PACKAGE}/torch/_use.py": TORCH_USE,
    f"{PACKAGE}/_norm.py": NORM,
    f"{PACKAGE}/_reductions.py": REDUCTIONS,
    f"{PACKAGE}/_coefficients.py": COEFFICIENTS,
    f"{PACKAGE}/_modes.py": MODES,
    f"{PACKAGE}/_on_import.py": ON_IMPORT,
    f"{ENGINES}/numba.py": NUMBA,
    f"{ENGINES}/numba_memory.py": NUMBA_MEMORY,
    f"{ENGINES}/recycled.py": RECYCLED,
    f"{ENGINES}/numba_read.py": NUMBA_READ,
    f"{ENGINES}/signatures.py": SIGNATURES,
    f"{ENGINES}/numpy_abi.py": NUMPY_ABI,
    f"{ENGINES}/numba_tensors.py": NUMBA_TENSORS,
    f"{ENGINES}/numba_distinct.py": NUMBA_DISTINCT,
    f"{ENGINES}/numba_compile.py": NUMBA_COMPILE,
    f"{PROGRAM}/render.py": RENDER,
    f"{PROGRAM}/numba_source.py": NUMBA_SOURCE,
    f"{PROGRAM}/evaluate.py": EVALUATE,
    f"{ENGINES}/xla_plan.py": XLA_PLAN,
    f"{ENGINES}/eager.py": EAGER,
    f"{ENGINES}/torch.py": TORCH,
    f"{ENGINES}/torch_cuda.py": TORCH_CUDA,
    f"{ENGINES}/dense.py": DENSE,
    f"{ENGINES}/torch_lists.py": TORCH_LISTS,
    f"{ENGINES}/torch_program.py": TORCH_PROGRAM,
    f"{PROGRAM}/program.py": PROGRAM_DATA,
    f"{PROGRAM}/symbols.py": SYMBOLS,
    f"{PROGRAM}/lower.py": LOWER,
    f"{PROGRAM}/trace.py": TRACE,
    f"{ENGINES}/numba_cache.py": NUMBA_CACHE,
}

"""From a kernel to object code: Numba infers types and writes LLVM's code, LLVM optimizes it once, as a whole.

Numba by itself would optimize and assemble each function that a kernel calls, and its callers again with it inside.
Kernels allocate nothing and raise nothing, so that their code needs nothing of Numba's when it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.registry import cpu_target
from numba.extending import intrinsic, typeof_impl

from sim.calls import ENTRY
from sim.jit import Intrinsic, Kernel
from sim.processor import processor


def object_code(kernel: Kernel, arguments: tuple[Any, ...]) -> bytes:
    """Object code of a kernel for arguments of these types: the function `ENTRY` (see `sim.calls`)."""
    types, dispatcher = tuple(map(_type_of, arguments)), _dispatcher(kernel)
    with _only_translated():
        dispatcher.compile(types)
    compiled = dispatcher.overloads[types]
    name, module = compiled.fndesc.llvm_func_name, llvm.parse_assembly(compiled.library.get_llvm_str())
    module.link_in(llvm.parse_assembly(_entry(module.get_function(name))))
    for symbol in (*module.functions, *module.global_variables):
        if symbol.name == "numba_ldexp":
            symbol.name = "ldexp"
        elif not symbol.is_declaration and symbol.name != ENTRY:
            symbol.linkage = "internal"
    return _optimized(module)


def _type_of(value: Any) -> Any:
    """Numba's type of an argument; arrays can be written."""
    if isinstance(value, tuple):
        return numba.types.NamedTuple(list(map(_type_of, value)), type(value))
    return numba.typeof(value).copy(readonly=False) if isinstance(value, np.ndarray) else numba.int64


def _dispatcher(kernel: Kernel) -> Any:
    if kernel.dispatcher is None:
        kernel.dispatcher = numba.njit(
            kernel.function, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
        )
    return kernel.dispatcher


def _type_of_kernel(kernel: Kernel, context: Any) -> Any:
    return numba.typeof(_dispatcher(kernel))


def _type_of_intrinsic(value: Intrinsic, context: Any) -> Any:
    if value.compiled is None:
        value.compiled = intrinsic(value.function)
        cpu_target.typing_context.refresh()
    return cpu_target.typing_context.resolve_value_type(value.compiled)


typeof_impl.register(Kernel, _type_of_kernel)
typeof_impl.register(Intrinsic, _type_of_intrinsic)


@contextmanager
def _only_translated() -> Iterator[None]:
    """Numba neither optimizes nor assembles what it compiles, and wants no address of it."""
    level, codegen = numba.config.OPT, cpu_target.target_context.codegen()
    numba.config.OPT = type(level)(0)
    codegen._add_module = codegen.set_env = lambda *_: None
    try:
        yield
    finally:
        numba.config.OPT = level
        del codegen._add_module, codegen.set_env


def _entry(function: Any) -> str:
    """LLVM's code of `ENTRY`: the result becomes the first word; the arguments of `function` are the others."""
    kinds = [str(argument.type) for argument in function.arguments]
    lines, passed = ["%exception = alloca ptr", "store i64 0, ptr %words"], ["ptr %words", "ptr %exception"]
    for i, kind in enumerate(kinds[2:], 1):
        lines += [f"%place{i} = getelementptr i64, ptr %words, i64 {i}", f"%word{i} = load {kind}, ptr %place{i}"]
        passed.append(f"{kind} %word{i}")
    lines += [f'call i32 @"{function.name}"({", ".join(passed)})', "ret void"]
    declaration = f'declare i32 @"{function.name}"({", ".join(kinds)})'
    return "\n".join([declaration, f"define void @{ENTRY}(ptr %words) {{", *lines, "}"])


def _optimized(module: Any) -> bytes:
    target = processor().target()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = options.loop_interleaving = True
    builder = llvm.create_pass_builder(target, options)
    module.data_layout = str(target.target_data)
    builder.getModulePassManager().run(module, builder)
    return bytes(target.emit_object(module))

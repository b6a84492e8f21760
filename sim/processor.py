"""The processor that kernels are compiled for: LLVM's name and features of this one, or Numba's variables."""

from __future__ import annotations

import os
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm


class Processor(NamedTuple):
    """LLVM's name of a processor, and its features (``+avx2,-avx512f,...``)."""

    name: str
    features: str

    def target(self) -> Any:
        """LLVM's target machine, at its highest level of optimization."""
        target = llvm.Target.from_triple(llvm.get_process_triple())
        return target.create_target_machine(
            cpu=self.name, features=self.features, opt=3, reloc="pic", codemodel="default", jit=True
        )


@cache
def processor() -> Processor:
    """This processor; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES may say less of it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    return Processor(
        llvm.get_host_cpu_name() if name is None else name,
        llvm.get_host_cpu_features().flatten() if features is None else features,
    )

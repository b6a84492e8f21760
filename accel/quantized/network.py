"""A network as its source describes it: operators on real tensors, some of which have integer parameters.

A float network has no parameters; the quantizer, and the readers of quantized files, attach them. Operators and their
attributes are those of ONNX for every source; names are the source's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.network.nodes.host import FUNCTION_DOMAIN
from accel.network.windows import Shape
from accel.quantized.builder import Parameters, free_name

REAL_TYPES = ("float16", "bfloat16", "float32", "float64")
"""Types of real numbers, all of which are computed as float32."""
TABLE = "accel.Table"
"""The operator of a table of 256 integers, its attribute ``table``: between int8 tensors only."""


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator.

    Parameters
    ----------
    name : str
        As in the source; errors and reports use it.
    kind : str
        ONNX's name, with the domain in front if that is not ONNX's own.
    inputs, outputs : tuple of str
        Names of tensors; an empty name stands for an optional one that is absent.
    attributes : mapping of str to Any
        Integers, reals, texts (`str`), lists of them, arrays.
    opset : int
        Version of ONNX's operators.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 21

    def error(self, problem: str) -> ModelError:
        """A `ModelError` that names this operator."""
        return ModelError(f"{self.kind.removeprefix(f'{FUNCTION_DOMAIN}.')} {self.name!r}: {problem}")

    def input(self, position: int) -> str:
        """Name of input number `position`; empty if it is absent."""
        return self.inputs[position] if position < len(self.inputs) else ""

    def require(self, attribute: str, expected: Any, default: Any) -> None:
        """Raise unless an attribute has the only value that is supported."""
        value = self.attributes.get(attribute, default)
        if value != expected:
            raise self.error(f"{attribute} must be {expected!r}, got {value!r}; other values are not supported")


@dataclass(frozen=True, eq=False)
class TensorInfo:
    """A tensor: its shape, its type (NumPy's name), and its value if it is a constant."""

    name: str
    shape: Shape
    dtype: str = "float32"
    value: NDArray[Any] | None = None

    @classmethod
    def constant(cls, name: str, value: NDArray[Any]) -> TensorInfo:
        """A constant."""
        return cls(name, value.shape, value.dtype.name, value)


@dataclass(frozen=True, eq=False)
class Quantization:
    """Integer parameters of a tensor: ``real = (integers - zero_point) * scale``.

    Parameters
    ----------
    scale : ndarray of float32, shape (1,) or (size of `axis`,)
    zero_point : ndarray of int64, shape (1,) or (size of `axis`,)
    kind : str
        Type of the integers: "int8", "uint8", "int32", or a type of 4 bits for weights.
    axis : int
        That of several scales.
    integers : ndarray of int64, or of int8 for weights, optional
        Those of a constant, exactly.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    kind: str = "int8"
    axis: int = 0
    integers: NDArray[np.int64] | NDArray[np.int8] | None = None

    @classmethod
    def of(cls, parameters: Parameters) -> Quantization:
        """Those of an int8 activation."""
        return cls(np.array([parameters[0]], np.float32), np.array([parameters[1]], np.int64))

    @property
    def parameters(self) -> Parameters:
        """Scale and zero point of an activation as int8: those of uint8 are shifted by 128.

        Raises
        ------
        ModelError
            There are several, the type has other than 8 bits, or the scale is not a positive number.
        """
        if self.scale.size != 1 or self.zero_point.size != 1 or self.kind not in ("int8", "uint8"):
            raise ModelError(
                f"activations must have one scale and one zero point of int8 or uint8, got {self.scale.size} of "
                f"{self.kind}"
            )
        scale = self.scale.reshape(-1)[0]
        if not np.isfinite(scale) or scale <= 0:
            raise ModelError(f"scale must be a positive number, got {scale!r}")
        shift = 128 if self.kind == "uint8" else 0
        return float(scale), int(self.zero_point.reshape(-1)[0]) - shift

    @property
    def is_number(self) -> bool:
        """Whether integers of an activation stand for themselves, as those of an image that a Cast makes real."""
        return self.integers is None and self.scale.size == 1 and bool(self.scale == 1) and not np.any(self.zero_point)

    def along_axis(self, values: NDArray[Any], rank: int) -> NDArray[Any]:
        """Scales or zero points in a shape that broadcasts to a tensor of `rank` axes."""
        if values.size == 1:
            return values.reshape((1,) * rank)
        return values.reshape([-1 if axis == self.axis % rank else 1 for axis in range(rank)])

    @property
    def real(self) -> NDArray[np.float32]:
        """The numbers that the integers of a constant stand for, as DequantizeLinear computes them."""
        centred = self.centred
        return np.asarray(centred.astype(np.float32) * self.along_axis(self.scale, centred.ndim))

    @property
    def centred(self) -> NDArray[np.int64] | NDArray[np.int8]:
        """The integers of a constant without their zero points."""
        if self.integers is None:
            raise ModelError("integers must be known; only a constant has them")
        if self.integers.dtype == np.int8 and not np.any(self.zero_point):
            return self.integers
        return np.asarray(self.integers - self.along_axis(self.zero_point, self.integers.ndim))


@dataclass(frozen=True, eq=False)
class Network:
    """Operators in an order in which inputs come first, and what is known about their tensors.

    Parameters
    ----------
    name : str
    operators : tuple of Operator
    tensors : mapping of str to TensorInfo
        Inputs, constants and results, by name.
    inputs, outputs : tuple of str
        In the source's order; an output may be an input, a constant, or the same tensor as another.
    parameters : mapping of str to Quantization
        Of the tensors that are integers: none in a float network.
    host : frozenset of str
        Names of operators that the host computes, in real numbers, whatever the machine could do.
    output_names : tuple of str
        The source's names of the outputs; empty if they are those of the tensors.
    """

    name: str
    operators: tuple[Operator, ...]
    tensors: Mapping[str, TensorInfo]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Quantization] = field(default_factory=dict)
    host: frozenset[str] = frozenset()
    output_names: tuple[str, ...] = ()

    @property
    def results(self) -> dict[str, str]:
        """The tensor of every output, by the source's name of the output."""
        return dict(zip(self.output_names or self.outputs, self.outputs, strict=True))

    @property
    def computed(self) -> tuple[str, ...]:
        """The outputs that operators write, each once."""
        written = {name for op in self.operators for name in op.outputs}
        return tuple(dict.fromkeys(name for name in self.outputs if name in written))

    @property
    def is_quantized(self) -> bool:
        """Whether a tool has chosen parameters of tensors: images of 8 bits are numbers in float networks, too."""
        return not all(found.is_number for found in self.parameters.values())

    def free(self, name: str) -> str:
        """`name`, or with a number behind it if a tensor has that name."""
        return free_name(name, self.tensors)

    def value(self, name: str) -> NDArray[Any] | None:
        """The value of a constant; None for anything else."""
        return self.tensors[name].value if name in self.tensors else None

    def shape(self, operator: Operator, name: str) -> Shape:
        """The shape of a tensor that `operator` uses; `ModelError` if it is not known."""
        if name not in self.tensors:
            raise operator.error(f"shape of {name!r} must be known; fix free sizes with the option `shape`")
        return self.tensors[name].shape

    def readers(self) -> dict[str, list[Operator]]:
        """The operators that read each tensor, each as often as it does; outputs of the network count none."""
        readers: dict[str, list[Operator]] = {name: [] for name in (*self.inputs, *self.tensors)}
        for operator in self.operators:
            for name in filter(None, operator.inputs):
                readers.setdefault(name, []).append(operator)
        return readers

    def with_outputs(self, outputs: tuple[str, ...]) -> Network:
        """The same network with some tensors as its outputs."""
        return replace(self, outputs=outputs, output_names=())

    def with_operators(self, operators: Iterable[Operator], **constants: NDArray[Any]) -> Network:
        """The same network with other operators, and more constants."""
        added = {name: TensorInfo.constant(name, value) for name, value in constants.items()}
        return replace(self, operators=tuple(operators), tensors={**self.tensors, **added})

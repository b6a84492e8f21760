"""Operations on real numbers and other integers than int8: the host's alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes.base import Node
from accel.network.nodes.host_macs import COUNTS
from accel.network.windows import Shape

Attribute: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | NDArray[Any]
"""Value of an attribute of an ONNX operator."""

FUNCTION_DOMAIN, FUNCTION_BODY = "accel.function", "body"
"""The domain of operators that are functions of ONNX, and the attribute that holds one, serialized."""

TFLITE_DOMAIN, TFLITE_MODEL, TFLITE_MACS, TFLITE_REASON = "accel.tflite", "model", "macs", "why"
"""The domain of operators of TensorFlow Lite, and the attributes that hold a model of the operator alone, its products,
and why no unit computes it."""

ARRAY_DTYPES = ("bool", "float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""Types of constant arrays."""


class Quantize(Node):
    """Real numbers to integers: ``clamp(round(x / scale) + zero_point)``, ties as in the graph's mode."""

    input_dtype = "float32"

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


class Dequantize(Node):
    """Integers to real numbers: ``(q - zero_point) * scale``, in float32."""

    output_dtype = "float32"

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class HostOperator(Node):
    """One operator that ONNX Runtime, or LiteRT, evaluates; the graph's tensors tell types and shapes of its outputs.

    Parameters
    ----------
    output : str
        The first output.
    more_outputs : tuple of str
        The others.
    domain, op_type : str
        The operator: domain "" is ONNX's own, in `FUNCTION_DOMAIN` the attribute `FUNCTION_BODY` defines it, in
        `TFLITE_DOMAIN` the file in the attribute `TFLITE_MODEL`, whose inputs are the distinct arguments in order.
    opset : int
        Version of the domain's operator set.
    arguments : tuple of str
        The operator's inputs in order: each a name in `inputs` or in `constants`, or "" if it is left out.
    constants : mapping of str to ndarray
        Of the types `ARRAY_DTYPES`.
    attributes : mapping of str to int, float, str, tuple of one of them, or ndarray
    """

    more_outputs: tuple[str, ...] = ()
    domain: str = ""
    op_type: str
    opset: int
    arguments: tuple[str, ...]
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    arity = None
    input_dtype = None
    output_dtype = None

    @property
    def label(self) -> str:
        plain = self.domain in ("", FUNCTION_DOMAIN, TFLITE_DOMAIN)
        return self.op_type if plain else f"{self.domain}.{self.op_type}"

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.output, *self.more_outputs

    def macs(self, *shapes: Shape) -> int:
        """Products for the shapes of the inputs and outputs (`accel.network.nodes.host_macs`)."""
        if self.domain == TFLITE_DOMAIN:
            return self._known_macs()
        known = dict(zip((*self.inputs, *self.outputs), shapes, strict=True))
        known |= {name: value.shape for name, value in self.constants.items()}
        given = [known.get(name, ()) for name in self.arguments]
        if self.domain == FUNCTION_DOMAIN:
            return self._function_macs(given)
        try:
            return COUNTS[self.label](self.attributes, given, known[self.output]) if self.label in COUNTS else 0
        except IndexError:
            return 0

    def _known_macs(self) -> int:
        """The products that the attribute tells."""
        macs = self.attributes.get(TFLITE_MACS, 0)
        return macs if isinstance(macs, int) and macs > 0 else 0

    def _function_macs(self, given: Sequence[Shape]) -> int:
        """Products of the function for the shapes of its arguments."""
        from onnx import FunctionProto

        from accel.network.nodes.function_macs import function_macs

        body = np.asarray(self.attributes[FUNCTION_BODY]).tobytes()
        names = FunctionProto.FromString(body).input
        constants = {
            name: self.constants[argument]
            for name, argument in zip(names, self.arguments, strict=True)
            if argument in self.constants
        }
        return function_macs(body, dict(zip(names, given, strict=True)), constants)

    def check(self) -> None:
        if not all(isinstance(text, str) for text in (self.domain, self.op_type, *self.arguments, *self.more_outputs)):
            raise self.error("domain, op_type, arguments and more_outputs must be texts")
        if type(self.opset) is not int or not 0 < self.opset < 1 << 16:
            raise self.error(f"opset must be an integer in 1..65535, got {self.opset!r}")
        for name in ("constants", "attributes"):
            frozen = {key: self._frozen(name, key, value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, MappingProxyType(frozen))
        if any(not isinstance(value, np.ndarray) for value in self.constants.values()):
            raise self.error("constants must be arrays")
        given = {argument for argument in self.arguments if argument}
        if given != {*self.inputs, *self.constants} or set(self.inputs) & set(self.constants):
            raise self.error(
                f"arguments must name every input and constant, {sorted({*self.inputs, *self.constants})}, "
                f"got {self.arguments}"
            )

    def _frozen(self, name: str, key: object, value: Any) -> Any:
        """A value of a mapping as it is, an array read-only; `GraphError` if it has another type."""
        if isinstance(value, np.ndarray) and value.dtype.name in ARRAY_DTYPES and isinstance(key, str):
            if not value.flags.writeable and value.flags.c_contiguous:
                return value
            copy = np.array(value, order="C")
            copy.flags.writeable = False
            return copy
        items = value if isinstance(value, tuple) else (value,)
        kinds = {type(item) for item in items}
        if not isinstance(key, str) or len(kinds) > 1 or not kinds <= {int, float, str}:
            raise self.error(f"{name} must be numbers, texts, tuples of one of them, or arrays, got {key!r}: {value!r}")
        return value

"""A float ONNX network in ONNX Runtime: its values, its MACs, and its own int8 quantization of it to compare with."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""Values by the model's input names, first axis the sample."""
CHANNEL_SCALES_OPSET = 13


def split(samples: Arrays) -> list[dict[str, NDArray[Any]]]:
    """Every sample alone, as a batch of one."""
    count = len(next(iter(samples.values())))
    return [{name: values[i : i + 1] for name, values in samples.items()} for i in range(count)]


def outputs(model: Path | bytes, samples: Arrays) -> list[list[NDArray[Any]]]:
    """For each sample the outputs of a model, in its order."""
    runtime = _session(model if isinstance(model, bytes) else str(model))
    return [[np.asarray(value) for value in runtime.run(None, sample)] for sample in split(samples)]


METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "MinMax": (CalibrationMethod.MinMax, {}),
    "Entropy": (CalibrationMethod.Entropy, {}),
    "Percentile 99.999": (CalibrationMethod.Percentile, {"CalibPercentile": 99.999}),
}
"""ONNX Runtime's calibrators."""


def quantize(
    model: Path,
    calibration: Arrays,
    target: Path,
    method: str = "MinMax",
    activation_type: QuantType = QuantType.QInt8,
) -> None:
    """Write a model as ONNX Runtime's `quantize_static` quantizes it: QDQ, int8 weights, per channel, a calibrator."""
    calibrator, options = METHODS[method]
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        recent, prepared = Path(folder) / "recent.onnx", Path(folder) / "prepared.onnx"
        onnx.save(_with_channel_scales(onnx.load(model)), recent)
        quant_pre_process(str(recent), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Samples(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=activation_type,
            weight_type=QuantType.QInt8,
            calibrate_method=calibrator,
            extra_options=options,
        )


def _with_channel_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset in which DequantizeLinear knows scales per channel."""
    old = any(entry.domain in ("", "ai.onnx") and entry.version < CHANNEL_SCALES_OPSET for entry in model.opset_import)
    return onnx.version_converter.convert_version(model, CHANNEL_SCALES_OPSET) if old else model


class _Samples(CalibrationDataReader):
    """Calibration data as `quantize_static` reads it."""

    def __init__(self, samples: Arrays) -> None:
        self.samples = iter(split(samples))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.samples, None)


def macs(model: Path, samples: Arrays) -> int:
    """Multiply-accumulates of one sample in convolutions, matrix products and LSTMs."""
    proto = onnx.load(model)
    nodes = [node for node in proto.graph.node if node.op_type in _MACS]
    names = sorted({name for node in nodes for name in [*node.input, node.output[0]] if name})
    known = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    known |= {name: values[:1].shape for name, values in samples.items()}
    inner = [name for name in names if name not in known]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    values = _session(proto.SerializeToString()).run(inner, split(samples)[0])
    shapes = known | {name: np.shape(value) for name, value in zip(inner, values, strict=True)}
    return sum(_MACS[node.op_type]([shapes.get(name, ()) for name in [*node.input, node.output[0]]]) for node in nodes)


def _product(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


_MACS: dict[str, Any] = {
    "Conv": lambda shapes: _product(shapes[-1]) * _product(shapes[1][1:]),
    "ConvTranspose": lambda shapes: _product(shapes[0]) * _product(shapes[1][1:]),
    "Gemm": lambda shapes: _product(shapes[-1]) * _product(shapes[1]) // shapes[-1][-1],
    "MatMul": lambda shapes: _product(shapes[-1]) * shapes[0][-1],
    "LSTM": lambda shapes: _product(shapes[0][:2]) * (_product(shapes[1]) + _product(shapes[2])),
}
"""MACs of a node from the shapes of its inputs and its first output."""


def _session(model: str | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

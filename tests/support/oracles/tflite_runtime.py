"""TensorFlow Lite Micro on whole models, and real models with their samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert
from numpy.typing import NDArray
from tflite_micro import runtime

from accel.network.graph import Graph

ARENA_BYTES = 2**24


LITERT = {
    "CONV_2D, dilated by blocks": "tflite-micro pads with 0 instead of the zero point",
    "DEPTHWISE_CONV_2D, dilated by blocks": "tflite-micro pads with 0 instead of the zero point",
    "BROADCAST_TO": "tflite-micro lacks int8",
    **dict.fromkeys(("EXP", "LOG", "NEG", "SQRT"), "tflite-micro computes it with real numbers only"),
    **dict.fromkeys(("GELU", "RELU_0_TO_1", "RELU_N1_TO_1", "REVERSE_V2", "TOPK_V2"), "tflite-micro lacks it"),
    "SELECT_V2": "tflite-micro broadcasts less",
    "SPACE_TO_BATCH_ND": "tflite-micro pads with 0 instead of the zero point",
    "TILE": "tflite-micro lacks it",
    **dict.fromkeys(("FLOOR_DIV", "FLOOR_MOD"), "tflite-micro lacks int8"),
    "FULLY_CONNECTED, of computed weights": "LiteRT computes it, and rounds once where tflite-micro rounds twice",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "LiteRT computes it; tflite-micro's differs by a step in 7 of 2,895 outputs",
    **dict.fromkeys(
        (
            *("ATAN2, float32", "GELU, float32", "LOCAL_RESPONSE_NORMALIZATION, float32", "NON_MAX_SUPPRESSION_V4"),
            *("NON_MAX_SUPPRESSION_V5", "REDUCE_ANY", "REDUCE_PROD", "REVERSE_SEQUENCE, float32", "SCATTER_ND"),
        ),
        "tflite-micro lacks it",
    ),
    "STRIDED_SLICE, all masks": "tflite-micro ignores the masks of ellipsis and new axes",
}
"""Models whose runtime is LiteRT's reference kernels, and why; so are those of uint8."""


class LiteRt:
    """LiteRT's reference kernels behind the methods of `tflite_micro.runtime.Interpreter`."""

    def __init__(self, model: bytes) -> None:
        self._interpreter = litert.Interpreter(
            model_content=model, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
        )
        self._interpreter.allocate_tensors()

    def get_input_details(self, index: int) -> Any:
        """Shape, type and more of an input."""
        return self._interpreter.get_input_details()[index]

    def set_input(self, value: NDArray[Any], index: int) -> None:
        """Set an input."""
        self._interpreter.set_tensor(self.get_input_details(index)["index"], value)

    def invoke(self) -> None:
        """Run once; variables of operators start from zero."""
        self._interpreter.reset_all_variables()
        self._interpreter.invoke()

    def get_output(self, index: int) -> NDArray[Any]:
        """An output."""
        return np.asarray(self._interpreter.get_tensor(self._interpreter.get_output_details()[index]["index"]))


class FromZero:
    """TensorFlow Lite Micro whose variables start from zero in every run."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interpreter, name)

    def set_input(self, value: NDArray[Any], index: int) -> None:
        """Set an input, the first one first."""
        if index == 0:
            self._interpreter.reset()
        self._interpreter.set_input(value, index)


STATEFUL = ("SVDF",)
"""Models with variables."""


def interpreter(model: bytes, name: str = "") -> Any:
    """The runtime that defines the models called `name`, with one of them."""
    if name in LITERT or name.startswith("uint8 "):
        return LiteRt(model)
    micro = runtime.Interpreter.from_bytes(model, arena_size=ARENA_BYTES)
    return FromZero(micro) if name in STATEFUL else micro


def outputs(interpreter: Any, inputs: list[NDArray[np.int8]], count: int) -> list[NDArray[Any]]:
    """The runtime's outputs for int8 inputs; uint8 ends are shifted by 128."""
    for index, value in enumerate(inputs):
        details = interpreter.get_input_details(index)
        shifted = (value.astype(np.int16) + 128).astype(np.uint8) if details["dtype"] == np.uint8 else value
        interpreter.set_input(shifted.reshape(details["shape"]), index)
    interpreter.invoke()
    values = [interpreter.get_output(index) for index in range(count)]
    return [(v.astype(np.int16) - 128).astype(np.int8) if v.dtype == np.uint8 else v for v in values]


def random_samples(graph: Graph, rng: np.random.Generator, count: int) -> list[list[NDArray[np.int8]]]:
    """Random inputs; the last sample holds extremes only."""
    samples = []
    for index in range(count):
        values = [-128, 127] if index == count - 1 else range(-128, 128)
        samples.append([rng.choice(values, graph.tensors[name].shape).astype(np.int8) for name in graph.inputs])
    return samples


EGYPTIAN_CAT = 286
REAL_MODELS = {
    "mlperf_tiny/resnet8_int8.tflite": "cifar10_500.npz",
    "mlperf_tiny/dscnn_kws_int8.tflite": "kws_1000.npz",
    "imagenet/mobilenet_v2_int8.tflite": "",
}


def real_samples(folder: Path, name: str) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Real int8 inputs and their labels."""
    if not REAL_MODELS[name]:
        return photo(folder)[None], np.array([EGYPTIAN_CAT])
    with np.load(folder / "samples" / REAL_MODELS[name]) as archive:
        x, y = archive["x"], archive["y"]
    x = (x.astype(np.int16) - 128).astype(np.int8) if x.dtype == np.uint8 else x
    return x, y.astype(np.int64)


def photo(folder: Path) -> NDArray[np.int8]:
    """The middle of a 24-bit bitmap, every few pixels, as 224 x 224 int8 pixels."""
    data = (folder / "imagenet" / "cat.bmp").read_bytes()
    offset, width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (10, 18, 22))
    row_bytes = (width * 3 + 3) // 4 * 4
    rows = np.frombuffer(data, np.uint8, row_bytes * abs(height), offset).reshape(abs(height), row_bytes)
    pixels = rows[:: -1 if height > 0 else 1, : width * 3].reshape(abs(height), width, 3)[:, :, ::-1]
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    index = np.arange(224) * side // 224
    square = pixels[top : top + side, left : left + side][index][:, index]
    return (square.astype(np.int16) - 128).astype(np.int8)

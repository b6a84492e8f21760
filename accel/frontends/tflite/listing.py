"""Who computes each operator of TensorFlow Lite's schema, for the page that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from accel.frontends.tflite.choosing import CHOOSING
from accel.frontends.tflite.folding import FOLDERS
from accel.frontends.tflite.litert import REFUSED
from accel.frontends.tflite.reader import HOST_INTEGER, TRANSLATORS
from accel.frontends.tflite.real import REAL
from accel.frontends.tflite.states import VARIABLES

MACHINE, HOST, ONNX, LITERT, NOBODY = "machine", "host", "host: ONNX Runtime", "host: LiteRT", "-"
OWN = ("LOG_SOFTMAX", "SOFTMAX")
"""Operators of integers that the host computes by nodes of the graph's own."""
REAL_ONLY = (
    *("CEIL", "COS", "FLOOR", "POW", "ROUND", "SIGN", "SIN", "SQUARE"),
    *("ATAN2", "CONV_3D", "CONV_3D_TRANSPOSE", "FAKE_QUANT", "L2_POOL_2D"),
    "LOCAL_RESPONSE_NORMALIZATION",
)
"""Operators for which LiteRT has no kernel of integers of 8 bits."""
_IMAGES = "image by image in a batch"
_WINDOW = f"padding SAME or VALID, any stride, RELU, RELU6, RELU_N1_TO_1 fused; {_IMAGES}"
_MATRIX = "INT8, INT4, or uint8 with a zero point; one scale or one per channel"
_WEIGHTS = f"{_MATRIX}; {_WINDOW}"
_PAIR = "broadcasts up to four axes; with a constant number, or of a tensor with itself, a table"
_AXES = "constant axes, any"
NOTES: Mapping[str, str] = MappingProxyType(
    {
        "ADD": _PAIR,
        "ADD_N": "one scale and zero point; as TensorFlow Lite Micro, beginning with what a stored 0 stands for",
        "ARG_MAX": "constant axis",
        "ARG_MIN": "constant axis",
        "AVERAGE_POOL_2D": _WINDOW,
        "BATCH_MATMUL": "a constant matrix on either side, one scale; of two tensors the host's",
        "BATCH_TO_SPACE_ND": "constant blocks and crops; around a convolution its dilation",
        "BROADCAST_TO": "constant shape",
        "CONCATENATION": "any axis; equal scales and zero points, as the runtimes ask for",
        "CONV_2D": f"groups, dilation; weights {_WEIGHTS}",
        "CUMSUM": "as TensorFlow Lite Micro, beginning with what a stored 0 stands for; large sums saturate",
        "CUSTOM": "at the end of a network: what it reads are outputs",
        "DEPTHWISE_CONV_2D": f"any multiplier, dilation; weights {_WEIGHTS}",
        "DEPTH_TO_SPACE": "any block",
        "DEQUANTIZE": "of an output: the integers are the output",
        "DIV": f"{_PAIR}; of two tensors the host's",
        "FULLY_CONNECTED": f"several rows; weights {_MATRIX}; computed ones LiteRT's, which rounds once",
        "GATHER": "any axis and batch_dims at constant places; at computed ones the host's",
        "L2_NORMALIZATION": "of integers LiteRT's",
        "LOG_SOFTMAX": "last axis",
        "MAXIMUM": _PAIR,
        "MAX_POOL_2D": _WINDOW,
        "MEAN": f"{_AXES}; over the last ones a product with ones where the multiplier suits the array",
        "MINIMUM": _PAIR,
        "MIRROR_PAD": "both modes, constant sizes; of real numbers LiteRT's",
        "MUL": _PAIR,
        "PAD": "constant sizes",
        "PADV2": "constant sizes and number",
        "PRELU": "constant slopes; computed ones LiteRT's",
        "QUANTIZE": "of integers a table; of an input: the integers are the input",
        "REDUCE_MAX": _AXES,
        "REDUCE_MIN": _AXES,
        "REDUCE_PROD": "of integers LiteRT's",
        "RESHAPE": "constant shape",
        "RESIZE_BILINEAR": f"every convention of coordinates; {_IMAGES}; of uint8 the host's, of real numbers LiteRT's",
        "RESIZE_NEAREST_NEIGHBOR": f"every convention of coordinates; {_IMAGES}; of real numbers LiteRT's",
        "SLICE": "constant begin and size",
        "SOFTMAX": "last axis, any beta",
        "SPACE_TO_BATCH_ND": "constant blocks and paddings; around a convolution its dilation",
        "SQUARED_DIFFERENCE": f"{_PAIR}; of two tensors the host's",
        "STRIDED_SLICE": "every mask; constant begin, end and strides",
        "SUB": _PAIR,
        "SUM": f"{_AXES}; over the last ones a product with ones where the multiplier suits the array",
        "SVDF": "state of INT8: one more input and one more output; of INT16 LiteRT's, from zero in every inference",
        "TILE": "constant multiples",
        "TOPK_V2": "constant k",
        "TRANSPOSE": "constant order",
        "TRANSPOSE_CONV": f"padding SAME or VALID; weights {_MATRIX}",
        **dict.fromkeys(("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"), "states start from zero in every inference"),
        **dict.fromkeys(("RNN", "UNIDIRECTIONAL_SEQUENCE_RNN"), "states start from zero in every inference"),
        **dict.fromkeys(
            ("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN"), "states start from zero in every inference"
        ),
    }
)
"""Attributes and conditions."""


class Listed(NamedTuple):
    """An operator: who computes it on integers of 8 bits, and on all else, and the conditions."""

    builtin: str
    integers: str
    others: str
    notes: str


def listed() -> list[Listed]:
    """Every operator of the schema, by name."""
    import tflite

    names = (name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int))
    return [_listed(name) for name in sorted(names)]


def _listed(builtin: str) -> Listed:
    if builtin in VARIABLES:
        return Listed(builtin, "state", NOBODY, "a variable is one more input and one more output")
    if builtin in ("QUANTIZE", "DEQUANTIZE"):
        return Listed(builtin, MACHINE if builtin == "QUANTIZE" else NOBODY, HOST, NOTES[builtin])
    if builtin in REFUSED:
        return Listed(builtin, NOBODY, NOBODY, NOTES.get(builtin, f"refused: {REFUSED[builtin]}"))
    integers = HOST if builtin in OWN else MACHINE if builtin in TRANSLATORS else ""
    chosen = builtin in HOST_INTEGER or builtin in CHOOSING or builtin == "CAST"
    integers = integers or (ONNX if chosen else NOBODY if builtin in REAL_ONLY else LITERT)
    others = ONNX if builtin in REAL else LITERT
    known = "integers that are known when the file is read are computed then" if builtin in FOLDERS else ""
    return Listed(builtin, integers, others, "; ".join(filter(None, (NOTES.get(builtin, ""), known))))

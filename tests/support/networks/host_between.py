"""Float networks of one kind of host operator between two convolutions."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_HEAD = '<ir_version: 8, opset_import: ["" : 17]> between (float[1,4,6,6] x) => (float[n,c,h,w] y) {{ {nodes} }}'
_SEQUENCE = (
    "s = Constant <value = int64[3] {{6, 1, 24}}> () t = Reshape (a, s) r = {kind} <hidden_size = 4> (t, wi, wr)"
)
_RECURRENT = f"{_SEQUENCE} u = Constant <value = int64[4] {{{{1, 4, 6, 1}}}}> () b = Reshape (r, u)"
_NUMBER = "o = Constant <value = float {{{}}}> ()"
_CONDITION = "m = ReduceMean <keepdims = 0> (a) zero = Constant <value = float {0.0}> () c = Greater (m, zero)"
BETWEEN = {
    "ArgMax": "i = ArgMax <axis = 1> (a) b = Cast <to = 1> (i)",
    "Conv of computed weights": "s = Constant <value = int64[4] {4, 4, 3, 3}> () k = Reshape (a, s) b = Conv (a, k)",
    "CumSum": "axis = Constant <value = int64 {2}> () b = CumSum (a, axis)",
    "Div": f"d = ReduceMax <axes = [1]> (a) {_NUMBER.format(9.0)} e = Add (d, o) b = Div (a, e)",
    "Einsum": 'b = Einsum <equation = "nchw,nchv->ncwv"> (a, a)',
    "GRU": _RECURRENT.format(kind="GRU"),
    "Gather": "i = ArgMax <axis = 2, keepdims = 0> (a) f = Flatten <axis = 0> (i) j = Gather <axis = 1> (f, k0) "
    "l = Squeeze (j, k1) b = Gather <axis = 2> (a, l)",
    "GatherElements": "i = ArgMax <axis = 3> (a) b = GatherElements <axis = 3> (a, i)",
    "GridSample": "f, g = Split <axis = 1> (a) p = Transpose <perm = [0, 2, 3, 1]> (f) q = Tanh (p) "
    "b = GridSample (a, q)",
    "Hardmax": "b = Hardmax <axis = 1> (a)",
    "If": f"{_CONDITION} b = If (c) <then_branch = one () => (float[1,4,6,6] t) {{ t = Neg (a) }}, "
    "else_branch = two () => (float[1,4,6,6] e) { e = CumSum (a, k1) }>",
    "LSTM": _RECURRENT.format(kind="LSTM"),
    "LayerNormalization": "b = LayerNormalization <axis = 1> (a, normal)",
    "LogSoftmax": "b = LogSoftmax <axis = 2> (a)",
    "Loop": """n = Constant <value = int64 {3}> () true = Constant <value_int = 1> () c = Cast <to = 9> (true)
        b = Loop (n, c, a) <body = turn (int64 i, bool go, float[1,4,6,6] s) => (bool on, float[1,4,6,6] r) {
            on = Identity (go) l = ReduceL2 <axes = [3]> (s) r = Sub (s, l) }>""",
    "LpPool": "b = LpPool <kernel_shape = [2, 2]> (a)",
    "MatMul": "t = Transpose <perm = [0, 1, 3, 2]> (a) b = MatMul (a, t)",
    "Pow": f"{_NUMBER.format(0.5)} e = Abs (a) d = Add (e, o) m = ReduceMean <axes = [3]> (a) b = Pow (d, m)",
    "RNN": _RECURRENT.format(kind="RNN"),
    "MaxPool with places": "m, i = MaxPool <kernel_shape = [2, 2]> (a) j = Cast <to = 1> (i) "
    "n = CumSum (j, k1) b = Concat <axis = 1> (m, n)",
    "ReduceL2": "b = ReduceL2 <axes = [1]> (a)",
    "Resize": 's = Constant <value = float[4] {1.0, 1.0, 1.5, 2.0}> () b = Resize <mode = "linear"> (a, , s)',
    "ScatterElements": "i = ArgMax <axis = 3> (a) m = ReduceMax <axes = [3]> (a) n = Neg (m) "
    "b = ScatterElements <axis = 3> (a, i, n)",
    "Softmax": "b = Softmax <axis = 1> (a)",
    "TopK": "n = Constant <value = int64[1] {3}> () b, i = TopK <axis = 3> (a, n)",
    "Where": "m = ReduceMean <axes = [1]> (a) c = Greater (a, m) n = CumSum (a, k1) b = Where (c, a, n)",
}
"""Operators that make `b` of the first convolution's result `a`, an image of four channels and 6 rows and columns."""
_CHANNELS = {"ArgMax": 1, "MaxPool with places": 8, "ReduceL2": 1}
_SIZES = {"GRU": (1, 12, 24), "LSTM": (1, 16, 24), "RNN": (1, 4, 24)}
_PLACES = {"k0": np.arange(6), "k1": np.array([0])}


def between(kind: str) -> bytes:
    """A model with input "x" (1, 4, 6, 6) and output "y"."""
    rng, nodes = np.random.default_rng(len(kind)), f"a = Conv (x, w0) {BETWEEN[kind]} y = Conv (b, w1)"
    model = onnx.parser.parse_model(_HEAD.format(nodes=nodes))
    wide = _SIZES.get(kind, (1, 1, 1))
    shapes = {"w0": (4, 4, 1, 1), "w1": (3, _CHANNELS.get(kind, 4), 1, 1), "normal": (4, 6, 6), "wi": wide}
    shapes["wr"] = (*wide[:2], 4)
    constants = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()} | _PLACES
    used = {name for node in model.graph.node for name in node.input} | {"k1"}
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items() if name in used)
    return bytes(model.SerializeToString())


def samples(count: int) -> NDArray[np.float32]:
    """Inputs."""
    return np.random.default_rng(count).normal(0, 1, (count, 4, 6, 6)).astype(np.float32)

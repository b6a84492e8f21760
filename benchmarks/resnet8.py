"""MLPerf Tiny's float ResNet8 as an ONNX model: its TensorFlow Lite file has five kinds of operators.

Run: python benchmarks/resnet8.py MODELS/mlperf_tiny/resnet8_float.tflite TARGET.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
KINDS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if not name.startswith("_")}


class Translator:
    """Nodes and constants of the model; images are NHWC there and NCHW here."""

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAs(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, index: int) -> NDArray[np.float32]:
        """The value of a constant tensor."""
        tensor = self.graph.Tensors(index)
        data = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), np.float32).reshape(tensor.ShapeAsNumpy())

    def add(self, kind: str, source: list[str], output: int, *constants: NDArray[np.float32], **fields: Any) -> str:
        """Add a node with constants behind its sources; returns its result, which is named after a tensor."""
        result = f"t{output}" if f"t{output}" not in {node.output[0] for node in self.nodes} else f"t{output}_relu"
        names = [f"{result}_{index}" for index in range(len(constants))]
        self.constants += [numpy_helper.from_array(value, name) for value, name in zip(constants, names, strict=True)]
        self.nodes.append(helper.make_node(kind, [*source, *names], [result], name=result, **fields))
        return result

    def translate(self) -> onnx.ModelProto:
        """The model."""
        names = {self.graph.Inputs(0): "x"}
        for index in range(self.graph.OperatorsLength()):
            op = self.graph.Operators(index)
            code = self.model.OperatorCodes(op.OpcodeIndex())
            kind = KINDS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs, output = list(op.InputsAsNumpy()), op.Outputs(0)
            names[output] = self._operator(kind, op.BuiltinOptions(), inputs, output, names)
        result = names[self.graph.Outputs(0)]
        graph = helper.make_graph(
            self.nodes,
            "resnet8",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 32, 32))],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, (1, 10))],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    def _operator(self, kind: str, table: Any, inputs: list[int], output: int, names: dict[int, str]) -> str:
        sources = [names[index] for index in inputs if index in names]
        if kind == "CONV_2D":
            options = _options(tflite.Conv2DOptions(), table)
            fields = {"auto_pad": "SAME_UPPER", "strides": [options.StrideH(), options.StrideW()]}
            weight = np.ascontiguousarray(self.constant(inputs[1]).transpose(0, 3, 1, 2))
            found = self.add("Conv", sources, output, weight, self.constant(inputs[2]), **fields)
        elif kind == "ADD":
            options = _options(tflite.AddOptions(), table)
            found = self.add("Add", sources, output)
        elif kind == "FULLY_CONNECTED":
            options = _options(tflite.FullyConnectedOptions(), table)
            found = self.add("Gemm", sources, output, *map(self.constant, inputs[1:]), transB=1)
        elif kind == "AVERAGE_POOL_2D":
            return self.add("GlobalAveragePool", sources, output)
        elif kind == "RESHAPE":
            return self.add("Flatten", sources, output)
        else:
            return self.add("Softmax", sources, output)
        is_relu = options.FusedActivationFunction() == tflite.ActivationFunctionType.RELU
        return self.add("Relu", [found], output) if is_relu else found


def _options(options: Any, table: Any) -> Any:
    """The fields of an operator."""
    options.Init(table.Bytes, table.Pos)
    return options


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    onnx.save(Translator(arguments.source.read_bytes()).translate(), arguments.target)


if __name__ == "__main__":
    main()

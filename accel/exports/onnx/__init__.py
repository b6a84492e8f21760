"""From integer graphs to networks of ONNX operators: what the formats `qdq`, `qoperator` and `tensorrt` share."""

"""Post-training quantization of float ONNX models to integer graphs."""

from accel.quantizer.quantize import quantize

__all__ = ["quantize"]

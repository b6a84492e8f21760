"""Post-training quantization of float ONNX models to integer graphs."""

from accel.quantizer.quantize import quantize, quantize_network

__all__ = ["quantize", "quantize_network"]

"""Post-training quantization of float ONNX models to integer graphs."""

from accel.quantizer.convert import dequantize_output, quantize_input
from accel.quantizer.quantize import quantize

__all__ = ["dequantize_output", "quantize", "quantize_input"]

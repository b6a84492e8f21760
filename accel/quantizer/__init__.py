"""Post-training quantization of float ONNX models to integer graphs."""

from accel.quantizer.choose import Choice
from accel.quantizer.config import QuantizationConfig, make_config
from accel.quantizer.images import ImageFolder, Preprocessing
from accel.quantizer.quantize import quantize, quantize_network

__all__ = [
    "Choice",
    "ImageFolder",
    "Preprocessing",
    "QuantizationConfig",
    "make_config",
    "quantize",
    "quantize_network",
]

"""What quantizing costs, layer by layer, and what to do about it."""

from accel.analysis.analyze import Analysis, LayerAnalysis, analyze, analyze_network

__all__ = ["Analysis", "LayerAnalysis", "analyze", "analyze_network"]

"""From integer graphs to TensorFlow Lite files."""

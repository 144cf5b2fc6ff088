"""Runners: one protocol over PyTorch (the reference), ONNX Runtime and, later, TensorRT."""

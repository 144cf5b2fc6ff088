"""Checkpoint to bundle: ONNX graphs, golden answers and the proof that routing is dynamic."""

"""molre-edge: put a trained Mixture of Low-Rank Experts head-CT model on an edge device, and prove it unchanged.

Research and engineering tool, not a cleared medical device; its output is not a diagnosis.
"""

from molre_edge.offline import disable_telemetry

disable_telemetry()  # before any module can load a library that sends data

__version__ = "0.1.0"

__all__ = ["__version__"]

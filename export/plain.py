"""The model without its adapters, as graphs, to measure the cost of the adapters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from molre_edge.errors import MissingDependencyError
from molre_edge.specs import Precision

__all__ = ["plain_graphs"]


def plain_graphs(
    checkpoint: Path, precisions: Iterable[Precision], *, backbone_weights: Path | None = None
) -> dict[Precision, bytes]:
    """Export a checkpoint with K = 0: its backbone, pooling and head, without experts and routers.

    The answers are not those of the model. Only the times are meaningful.

    Args:
        checkpoint: ``.pt`` or ``.safetensors``.
        precisions: fp32, fp16 or both; others are ignored.
        backbone_weights: the Hugging Face folder, if the checkpoint does not contain the backbone's weights.

    Raises:
        MissingDependencyError: torch or another library of the extra ``export`` is not installed.
        CheckpointError: the checkpoint can't be read.
        ExportError: the plain model can't be exported.
    """
    try:
        import onnxsim  # noqa: F401

        from molre_edge.export.graph import export_fp32
        from molre_edge.export.half import to_half
        from molre_edge.model.checkpoint import load_checkpoint, plain_names
        from molre_edge.model.classifier import HeadCTClassifier
        from molre_edge.model.config import AdapterConfig
    except ImportError as error:
        raise MissingDependencyError("Exporting the plain model", str(error.name), "export") from error
    loaded = load_checkpoint(checkpoint, backbone_weights=backbone_weights)
    plain = HeadCTClassifier(replace(loaded.config, adapter=AdapterConfig(experts=0))).eval()
    names, weights = plain_names(loaded.model), loaded.model.state_dict()
    wanted = plain.state_dict().keys()
    plain.load_state_dict({names[name]: weights[name] for name in weights if names[name] in wanted})
    graph = export_fp32(plain)
    makers = {Precision.FP32: lambda: graph, Precision.FP16: lambda: to_half(graph, plain)}
    return {p: makers[p]().SerializeToString() for p in sorted(set(precisions)) if p in makers}

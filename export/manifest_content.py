"""The content of an exported bundle's manifest."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any

from molre_edge import __version__
from molre_edge.bundle.golden_origin import OwnGolden
from molre_edge.bundle.manifest import GraphFacts
from molre_edge.export.routing_proof import RoutingProof
from molre_edge.parity import ParityLimits, ParityNumbers, Verdict
from molre_edge.specs import Precision

if TYPE_CHECKING:
    from molre_edge.model.checkpoint import LoadedCheckpoint

__all__ = ["GraphParity", "manifest_content"]


@dataclass(frozen=True, eq=False)
class GraphParity:
    """Parity of one graph with PyTorch on the golden volumes.

    Attributes:
        numbers, verdict: of the worst answer to each volume, alone or in a batch.
        limits: that applied.
        batches: ``size`` of the batches, and ``answers`` in them besides those alone.
    """

    numbers: ParityNumbers
    verdict: Verdict
    limits: ParityLimits
    batches: Mapping[str, int]


def manifest_content(
    checkpoint: LoadedCheckpoint,
    graphs: Mapping[Precision, GraphFacts],
    attention: str,
    adapters: str,
    parity: Mapping[Precision, GraphParity],
    proof: RoutingProof | None,
    golden_origin: str,
    notes: Iterable[str],
    own: OwnGolden | None = None,
) -> dict[str, Any]:
    """The manifest without ``format``, ``version`` and ``files``; docs/concepts/bundle.md describes it.

    Args:
        checkpoint: the exported checkpoint.
        graphs: facts of the graphs in the bundle.
        attention: ``fused`` or ``unfused``, in all of them.
        adapters: whether the trained tensors are their ``constants`` or ``inputs``.
        parity: parity of every graph that was judged.
        proof: evidence that routing is dynamic; None if the model has no routing.
        golden_origin: the origin of the golden volumes.
        notes: remarks that a report shows beside the numbers.
        own: who gave the golden answers, if the user's own model did.
    """
    from molre_edge.model.placement import count_parameters

    config = checkpoint.config
    count = count_parameters(checkpoint.model)
    plain = config.to_dict()
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "tool": {"molre-edge": __version__, "python": platform.python_version(), **_versions()},
        "checkpoint": {"sha256": checkpoint.sha256},
        "config": plain,
        "grid": plain["grid"],
        "findings": plain["findings"],
        "thresholds": plain["thresholds"],
        "parameters": {"added": count.added, "rest": count.rest, "added_fraction": count.fraction},
        "graphs": {str(precision): facts.to_dict() for precision, facts in graphs.items()},
        "attention": attention,
        "adapters": adapters,
        "golden": {"origin": golden_origin, **({} if own is None else {"answers": own.to_dict()})},
        "routing": None if proof is None else proof.to_dict(),
        "parity": {
            str(precision): {
                "limits": result.limits.to_dict(),
                "verdict": result.verdict.to_dict(),
                "volumes": result.numbers.n,
                "batches": dict(result.batches),
            }
            for precision, result in parity.items()
        },
        "notes": list(notes),
    }


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an ONNX Runtime for GPUs goes by another name
            continue
    return found

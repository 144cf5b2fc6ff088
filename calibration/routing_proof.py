"""The proof that routing is dynamic, for the graphs of a calibration: from the manifest, on any of its graphs."""

from __future__ import annotations

from dataclasses import dataclass

from molre_edge.bundle.bundle import Bundle
from molre_edge.calibration.indexed_model import IndexedModel
from molre_edge.errors import BundleError
from molre_edge.export.routing_trace import RouterTrace, trace_routers

__all__ = ["RoutingShape"]


@dataclass(frozen=True)
class RoutingShape:
    """The sizes of a model's routing.

    Attributes:
        routers: routers in the model; 0 for a model without routing.
        layers: adapted layers.
        experts: experts per layer.
        rank: of each expert.
    """

    routers: int = 0
    layers: int = 0
    experts: int = 0
    rank: int = 0

    @classmethod
    def of(cls, bundle: Bundle) -> RoutingShape:
        """Read the sizes from the manifest of a bundle.

        Raises:
            BundleError: the manifest is damaged.
        """
        routing = bundle.manifest.get("routing")
        if not routing:
            return cls()
        try:
            adapter = bundle.manifest["config"]["adapter"]
            sizes = len(routing["routers"]), int(routing["adapted_layers"])
            return cls(*sizes, int(adapter["experts"]), int(adapter["rank"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{bundle.folder}: the section 'routing' of its manifest is damaged; expected the routers and the "
                f"number of adapted layers. Export the checkpoint again"
            ) from error

    def prove(self, model: IndexedModel) -> list[RouterTrace]:
        """Trace every router in a graph; an empty list for a model without routing.

        Raises:
            ExportError: a router does not depend on the scan, or its gates multiply no experts.
        """
        if not self.routers:
            return []
        return trace_routers(
            model.model, routers=self.routers, layers=self.layers, experts=self.experts, rank=self.rank
        )

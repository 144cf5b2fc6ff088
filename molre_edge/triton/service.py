"""Answers of a loaded model to many requests at a time, each with an adapter of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from molre_edge.errors import EngineError, MolreEdgeError
from molre_edge.parity import Outputs
from molre_edge.runs.loaded import LoadedModel

__all__ = ["Answers", "Asked", "Service"]

Answers: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""The outputs of one request, by name; each [batch, ...]."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One request.

    Attributes:
        volume: HU [batch, slices, rows, cols].
        adapter: name of an adapter; None for the bundle's default.
    """

    volume: npt.NDArray[Any]
    adapter: str | None = None


class Service:
    """Answers requests in as few calls as the engine can; a request that can't be answered costs no other."""

    def __init__(self, model: LoadedModel) -> None:
        """Use a loaded model, from one thread."""
        self._model = model
        sizes = model.facts.get("batch")
        self._largest: int | None = int(sizes[-1]) if sizes else None

    def answer(self, requests: Sequence[Asked]) -> list[Answers | MolreEdgeError]:
        """The outputs of each request, in their order, or why there are none."""
        groups = dict[tuple[str | None, tuple[int, ...]], list[int]]()
        for place, asked in enumerate(requests):
            groups.setdefault((asked.adapter, asked.volume.shape[1:]), []).append(place)
        answers = dict[int, Answers | MolreEdgeError]()
        for (adapter, _), places in groups.items():
            together = self._answer_group(adapter, [requests[place].volume for place in places])
            answers.update(zip(places, together, strict=True))
        return [answers[place] for place in range(len(requests))]

    def _answer_group(
        self, adapter: str | None, volumes: Sequence[npt.NDArray[Any]]
    ) -> Sequence[Answers | MolreEdgeError]:
        """Answer requests of one adapter and one shape in one call; one by one if that fails."""
        model = self._model
        try:
            if adapter is not None or model.adapter is not None:
                model.use_adapter(adapter)
        except MolreEdgeError as error:
            return [error] * len(volumes)
        try:
            outputs = self._run(np.concatenate(volumes))
        except EngineError as error:
            if len(volumes) == 1:
                return [error]
            return [each for volume in volumes for each in self._answer_group(adapter, [volume])]
        ends = np.cumsum([len(volume) for volume in volumes])
        return [
            self._named(outputs, int(end) - len(volume), int(end)) for volume, end in zip(volumes, ends, strict=True)
        ]

    def _run(self, volumes: npt.NDArray[Any]) -> Outputs:
        size = self._largest or max(1, len(volumes))
        if len(volumes) <= size:
            return self._model.run(volumes)
        parts = range(0, len(volumes), size)
        return Outputs.stack([self._model.run(volumes[begin : begin + size]) for begin in parts])

    def _named(self, outputs: Outputs, begin: int, end: int) -> Answers:
        """The answers of one request, with the names and thresholds of the adapter that gave them."""
        model, count = self._model, end - begin
        provenance = {"bundle": model.bundle, "engine": model.engine}
        if model.adapter is not None:
            provenance |= {"adapter": model.adapter, "adapter_sha256": str(model.adapter_sha256)}
        findings = np.array([name.encode() for name in model.findings], dtype=object)
        return {
            **{name: array[begin:end] for name, array in outputs.arrays.items()},
            "probabilities": outputs.probabilities[begin:end],
            "thresholds": np.tile(np.asarray(model.thresholds, dtype=np.float64), (count, 1)),
            "findings": np.tile(findings, (count, 1)),
            "provenance": np.array([[json.dumps(provenance).encode()]] * count, dtype=object),
        }

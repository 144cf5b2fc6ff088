"""A runner that answers by an adapter: its tensors are inputs of the engine, and what it has not is cut off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.fit import FittedAdapter, fit_adapter
from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.runner import Runner, RunResult, run_stream
from molre_edge.errors import AdapterError
from molre_edge.specs import TensorSpec

__all__ = ["AdaptedRunner", "fitted_for"]


def fitted_for(bundle: Bundle, runner: Runner) -> FittedAdapter:
    """The bundle's chosen adapter in the shapes of the graph that a runner runs.

    Raises:
        AdapterError: none was chosen, the graphs take none, or it does not fit.
    """
    facts = bundle.adapter_facts()
    if bundle.using is None:
        raise AdapterError(f"{bundle.folder}: no adapter was chosen. Name one with --adapter, or choose with select()")
    return fit_adapter(bundle.using, facts, bundle.graph(runner.precision).adapter_inputs)


class AdaptedRunner:
    """Answers by one adapter after the other; nothing is loaded or built for the next.

    Attributes:
        name, precision: of the runner within.
    """

    def __init__(self, inner: Runner, fitted: FittedAdapter) -> None:
        """Take a runner that is not entered yet, of a graph that takes trained tensors as inputs."""
        self.name, self.precision = inner.name, inner.precision
        self._inner, self._fitted = inner, fitted

    @property
    def fitted(self) -> FittedAdapter:
        """The adapter in use."""
        return self._fitted

    def __enter__(self) -> AdaptedRunner:
        """Enter the runner and give it the adapter's tensors."""
        self._inner.__enter__()
        try:
            self._inner.use_adapter(self._fitted.tensors)
        except BaseException as error:
            self._inner.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the runner."""
        self._inner.__exit__(kind, error, trace)

    def use(self, fitted: FittedAdapter) -> None:
        """Answer by another adapter from the next batch on.

        Raises:
            AdapterError: a value is beyond what the graph can hold; the adapter before stays.
        """
        self._inner.use_adapter(fitted.tensors)
        self._fitted = fitted

    def use_adapter(self, tensors: Tensors) -> None:
        """Give the engine other tensors of the same adapter's shapes; see :meth:`use`."""
        self._inner.use_adapter(tensors)

    @property
    def input_spec(self) -> TensorSpec:
        """The volume."""
        return self._inner.input_spec

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Those of the answers, without what is cut."""
        return tuple(self._cut_spec(spec) for spec in self._inner.output_specs)

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the runner, and the adapter's name and digest."""
        adapter = self._fitted.adapter
        return {**self._inner.facts, "adapter": adapter.name, "adapter_sha256": adapter.digest}

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Answer a batch; see :class:`molre_edge.engines.runner.Runner`."""
        return self._cut(self._inner.run(volume))

    def run_stream(self, volumes: Iterable[npt.NDArray[np.float16]]) -> Iterator[RunResult]:
        """Answer batch after batch; overlapped where the runner within can."""
        answers = run_stream(self._inner, volumes)
        try:
            yield from map(self._cut, answers)
        finally:
            close = getattr(answers, "close", None)
            if close is not None:  # a stream that is left early may have work on the device
                close()

    def _cut(self, result: RunResult) -> RunResult:
        return replace(result, outputs=self._fitted.cut(result.outputs))

    def _cut_spec(self, spec: TensorSpec) -> TensorSpec:
        if spec.name == "logits":
            return replace(spec, shape=(None, self._fitted.findings))
        if spec.name == "gates" and self._fitted.experts == 1:
            return replace(spec, shape=(None, 1, spec.shape[2], 1))
        if spec.name == "gates":
            return replace(spec, shape=(*spec.shape[:3], self._fitted.experts))
        return spec

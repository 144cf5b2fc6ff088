"""The model of Triton's Python backend. Triton makes one for each instance, and calls it from one thread."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molre_edge.errors import MolreEdgeError, UsageError
from molre_edge.progress import Silent
from molre_edge.runs.loaded import load_model
from molre_edge.specs import VOLUME
from molre_edge.triton.bundle_copy import default_adapter
from molre_edge.triton.forms import ADAPTER, BUNDLE
from molre_edge.triton.service import Answers, Asked, Service

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """Answers Triton's requests with a bundle. The names are those that Triton's Python backend looks for."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the engine; where it has not passed on this machine before, it answers the golden volumes first.

        Args:
            args: of Triton: ``model_repository`` (the model's folder), ``model_version`` and ``model_config`` (JSON).

        Raises:
            TritonModelException: the bundle is altered or not trusted here, or the engine can't run or fails the
                golden volumes. Triton then says why, and the model is not served.
        """
        import triton_python_backend_utils as triton

        self._triton = triton
        config = json.loads(args["model_config"])
        given = {name: each["string_value"] for name, each in config["parameters"].items()}
        self._outputs = [each["name"] for each in config["output"]]
        self._stack = contextlib.ExitStack()
        folder = Path(args["model_repository"]) / args["model_version"] / BUNDLE
        try:
            model = self._stack.enter_context(
                load_model(
                    folder,
                    given["engine"],
                    adapter=default_adapter(folder),
                    expect_digest=given["bundle"],
                    threads=int(given["threads"]) if "threads" in given else None,
                    readers=0,
                    progress=_Log(triton.Logger),
                )
            )
        except MolreEdgeError as error:
            raise triton.TritonModelException(str(error)) from error
        self._service = Service(model)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, each with its own adapter; one that can't be answered gets an error of its own."""
        asked, replies = dict[int, Asked](), dict[int, Any]()
        for place, request in enumerate(requests):
            try:
                volume = self._triton.get_input_tensor_by_name(request, VOLUME).as_numpy()
                asked[place] = Asked(volume, _adapter_of(request.parameters()))
            except MolreEdgeError as error:
                replies[place] = self._refusal(error)
        answered = self._service.answer(list(asked.values()))
        for place, answer in zip(asked, answered, strict=True):
            if isinstance(answer, MolreEdgeError):
                replies[place] = self._refusal(answer)
            else:
                replies[place] = self._reply(answer, requests[place])
        return [replies[place] for place in range(len(requests))]

    def finalize(self) -> None:
        """Free the engine."""
        self._stack.close()

    def _reply(self, answers: Answers, request: Any) -> Any:
        wanted = set(request.requested_output_names())
        names = [name for name in self._outputs if name in wanted and name in answers]
        return self._triton.InferenceResponse(
            [self._triton.Tensor(name, np.ascontiguousarray(answers[name])) for name in names]
        )

    def _refusal(self, error: MolreEdgeError) -> Any:
        return self._triton.InferenceResponse(error=self._triton.TritonError(str(error)))


def _adapter_of(parameters: str) -> str | None:
    """The adapter that a request names; None if it names none.

    Raises:
        UsageError: the parameter is not text.
    """
    name = json.loads(parameters or "{}").get(ADAPTER)
    if name is None or (isinstance(name, str) and name):
        return name
    raise UsageError(f"the request's parameter {ADAPTER!r}: expected the name of an adapter as text, got {name!r}")


class _Log(Silent):
    """What is worth knowing, into Triton's log."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def info(self, text: str) -> None:
        """As information."""
        self._logger.log_info(text)

    def warn(self, text: str) -> None:
        """As a warning."""
        self._logger.log_warn(text)

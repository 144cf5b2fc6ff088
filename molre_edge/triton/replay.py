"""The golden volumes, asked of a running Triton server: alone, in batches, and all at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from molre_edge.adapters.tensors import Tensors
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.golden_origin import golden_words
from molre_edge.engines.runner import RunResult
from molre_edge.errors import AdapterError, BundleError, EngineError
from molre_edge.files import StrPath, read_regular
from molre_edge.parity import Outputs
from molre_edge.parity.batches import BatchAnswers, BatchJudgement, judge_batches
from molre_edge.parity.outputs import OUTPUT_NAMES
from molre_edge.signing.trust import trust_of
from molre_edge.specs import DISCLAIMER, VOLUME, Precision, TensorSpec
from molre_edge.triton.bundle_copy import default_adapter
from molre_edge.triton.client import TritonClient
from molre_edge.triton.export import FORMAT, FORMAT_VERSION, RECORD
from molre_edge.triton.forms import BUNDLE, VERSION
from molre_edge.verification.golden_check import check_golden, choose_limits

__all__ = ["Replay", "TritonRunner", "replay_golden"]

_MAX_RECORD_BYTES = 16 << 20
_LARGEST_BATCH = 32
"""Batches that are judged: a server may allow more than the golden volumes fill."""


@dataclass(frozen=True)
class Replay:
    """How a server answered the golden volumes.

    Attributes:
        url, model: who was asked.
        adapter: name of the adapter; None where the graph holds what was trained.
        volumes: golden volumes.
        batch: volumes of the largest request.
        verdict: each volume alone, and in every slot of the largest request: one sentence.
        verdict_at_once: all requests at once: one sentence.
        max_abs_dp: largest difference of a probability, over all three; None if no number was returned.
        calls: how often the server called the model meanwhile, by the number of volumes in the call.
        passed: whether all answers are within the limits.
    """

    url: str
    model: str
    adapter: str | None
    volumes: int
    batch: int
    verdict: str
    verdict_at_once: str
    max_abs_dp: float | None
    calls: Mapping[int, int]
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        calls = {str(size): count for size, count in sorted(self.calls.items())}
        return {**vars(self), "calls": calls, "disclaimer": DISCLAIMER}


class TritonRunner:
    """A model of a Triton server as an engine under test; see :class:`molre_edge.engines.runner.Runner`.

    Each answer that says what gave it (the Python form's does) is compared with what it should be.
    """

    def __init__(self, client: TritonClient, bundle: Bundle, precision: Precision, max_batch: int) -> None:
        """Take a client, the bundle with its adapter chosen, and the largest request."""
        self.name, self.precision = f"triton:{client.model}", precision
        self._client, self._bundle, self._max_batch = client, bundle, max_batch
        self._graph = bundle.graph(precision)

    @property
    def input_spec(self) -> TensorSpec:
        """The volume."""
        return self._graph.inputs[0]

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Those of the graph."""
        return self._graph.outputs

    @property
    def facts(self) -> dict[str, Any]:
        """The server and the largest request."""
        return {"runtime": "Triton", "device": self._client.url, "batch": [1, self._max_batch]}

    def use_adapter(self, tensors: Tensors) -> None:
        """Refused: requests name adapters."""
        raise AdapterError(f"{self.name}: a request names its adapter; it does not bring it")

    def run(self, volume: npt.NDArray[np.float16]) -> RunResult:
        """Answer a batch, float16 HU [batch, slices, rows, cols].

        Raises:
            EngineError: no answer, or by another bundle, adapter or findings than expected.
        """
        using, begun = self._bundle.using, perf_counter()
        answers = self._client.infer(volume.astype(self.input_spec.dtype), None if using is None else using.name)
        milliseconds = {"compute": (perf_counter() - begun) * 1000}
        missing = {spec.name for spec in self.output_specs} - answers.keys()
        if missing:
            raise EngineError(f"{self.name}: its answer lacks {', '.join(sorted(missing))}")
        self._check_provenance(answers)
        floats: dict[str, Any] = {name: array for name, array in answers.items() if name in OUTPUT_NAMES}
        return RunResult(Outputs.of(floats), milliseconds)

    def __enter__(self) -> TritonRunner:
        """Nothing to load."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to free."""

    def _check_provenance(self, answers: Mapping[str, npt.NDArray[Any]]) -> None:
        if "provenance" not in answers:
            return
        using = self._bundle.using
        wanted = {"bundle": self._bundle.digest, "adapter_sha256": None if using is None else using.digest}
        told = [json.loads(text) for text in answers["provenance"].ravel()]
        names = [[name.decode() for name in row] for row in answers["findings"]]
        for key, value in wanted.items():
            if other := sorted({str(each.get(key)) for each in told} - {str(value)}):
                raise EngineError(f"{self.name}: answered by {key} {', '.join(other)}, expected {value}")
        if any(row != list(self._bundle.findings) for row in names):
            raise EngineError(f"{self.name}: answered other findings than the bundle's, or in another order")


def replay_golden(
    repository: StrPath,
    url: str = "127.0.0.1:8000",
    *,
    model: str | None = None,
    adapter: str | None = None,
    bundle: StrPath | None = None,
    trust: Sequence[StrPath] | None = None,
) -> Replay:
    """Ask a running server the golden volumes, and judge its answers by the bundle's limits.

    Args:
        repository: folder of ``export_triton``; its record names the models and the bundle's digest.
        url: ``HOST:PORT`` of the server's HTTP service.
        model: name of the model; None for the repository's first.
        adapter: name of the bundle's adapter; None for its default.
        bundle: folder of the bundle; None for the one within the repository's Python form.
        trust: public keys, one of which must have signed the bundle's release; None for those configured here.

    Raises:
        BundleError: the repository or the bundle can't be read, is altered, or is another than the record says.
        SigningError: the bundle is not signed as `trust` asks.
        AdapterError: the bundle has no such adapter, or the model takes none.
        EngineError: the server does not answer, or serves something else than the repository.
    """
    record = _record(Path(repository))
    entry = _model(record, model, Path(repository))
    place = Path(bundle) if bundle is not None else _bundle_within(record, Path(repository))
    digest, precision = str(record["bundle"]["digest"]), Precision(entry["precision"])
    opened = Bundle.open(place, expect_digest=digest, trust=trust_of(trust))
    opened = opened.select(default_adapter(place) if adapter is None else adapter)
    client = TritonClient(url, str(entry["name"]))
    largest = _served(client, digest)
    limits = choose_limits(opened, precision, None).limits
    golden = opened.golden()
    runner = TritonRunner(client, opened, precision, largest)
    before = client.calls()
    check = check_golden(opened, runner, limits, golden)
    with ThreadPoolExecutor(len(golden.volumes)) as pool:
        single = (golden.volumes[place : place + 1] for place in range(len(golden.volumes)))
        answers = Outputs.stack([result.outputs for result in pool.map(runner.run, single)])
    words = golden_words(opened.own_golden, len(golden.volumes))
    at_once = judge_batches(
        BatchAnswers(answers), golden.outputs, limits, words, findings=opened.findings, thresholds=opened.thresholds
    )
    calls = {size: count - before.get(size, 0) for size, count in client.calls().items()}
    return Replay(
        url=client.url,
        model=client.model,
        adapter=None if opened.using is None else opened.using.name,
        volumes=len(golden.volumes),
        batch=largest,
        verdict=check.verdict.summary,
        verdict_at_once=at_once.verdict.summary,
        max_abs_dp=_largest(check.judgement, at_once),
        calls={size: count for size, count in calls.items() if count},
        passed=check.verdict.passed and at_once.verdict.passed,
    )


def _largest(*judged: BatchJudgement) -> float | None:
    sizes = [each.numbers.dp.max_abs for each in judged]
    return None if None in sizes else max(size for size in sizes if size is not None)


def _record(repository: Path) -> dict[str, Any]:
    path = repository / RECORD
    try:
        record = json.loads(read_regular(path, largest=_MAX_RECORD_BYTES))
        if (record["format"], record["version"]) != (FORMAT, FORMAT_VERSION) or not record["models"]:
            raise ValueError("another format or version")
        return dict(record)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BundleError(
            f"{path}: not the record of a model repository ({reason[:200]}). Expected a folder of 'molre-edge "
            f"export-triton'"
        ) from error


def _model(record: Mapping[str, Any], name: str | None, repository: Path) -> Mapping[str, Any]:
    models: list[Mapping[str, Any]] = record["models"]
    for each in models:
        if name is None or each["name"] == name:
            return each
    raise BundleError(f"{repository}: has no model {name}; it has {', '.join(str(each['name']) for each in models)}")


def _bundle_within(record: Mapping[str, Any], repository: Path) -> Path:
    for each in record["models"]:
        if each["form"] == "python":
            return repository / str(each["name"]) / VERSION / BUNDLE
    raise BundleError(f"{repository}: has no bundle within, as it has no Python form. Name the bundle with --bundle")


def _served(client: TritonClient, digest: str) -> int:
    """The largest request that a server takes, once it says that it serves this bundle.

    Raises:
        EngineError: it serves something else.
    """
    config = client.config()
    try:
        served = config["parameters"]["bundle"]["string_value"]
        inputs, largest = [each["name"] for each in config["input"]], int(config["max_batch_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"{client.model}: the server's model was not made by 'molre-edge export-triton'") from error
    if served != digest or VOLUME not in inputs:
        raise EngineError(
            f"{client.model}: the server serves the bundle {served}, expected {digest}. Restart it with this "
            f"repository, or replay the one that it serves"
        )
    return min(max(largest, 1), _LARGEST_BATCH)

"""How a run was made: all that its results say besides its answers, as one value that its folder keeps."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from molre_edge import __version__
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.golden_origin import OwnGolden
from molre_edge.engines.runner import Runner
from molre_edge.errors import ConfigError, shown
from molre_edge.parity import ParityLimits
from molre_edge.parity.limits import limits_from
from molre_edge.parity.whose import GIVEN, Given
from molre_edge.reports.parity_report import BundleFacts, EngineFacts
from molre_edge.runs.context import RunContext

__all__ = ["Circumstances"]


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """How a run was made.

    Attributes:
        engine: the engine under test.
        bundle: its bundle.
        findings: names, in the order of the model's outputs.
        thresholds: probabilities, one a finding.
        reference: ``checkpoint``, ``own model``, ``golden`` or ``none``.
        why: of that reference, a sentence.
        reference_runner: name of the reference's runner, or of the user's own model; empty without one.
        reference_details: facts of it, as texts.
        checkpoint: name of the checkpoint's file, for ``checkpoint``.
        given: what the user's own model gets, for ``own model``.
        own_golden: of the golden answers that the user's own model gave; None for the rebuild's.
        limits: parity limits of this engine.
        limits_source: where they came from.
        labels_given: whether labels were asked to be used.
        command: for the report.
        versions: library -> version.
        notes: of the run.
        bundle_notes: of the bundle.
        measured_on: what times were measured on.
    """

    engine: EngineFacts
    bundle: BundleFacts
    findings: tuple[str, ...]
    thresholds: tuple[float, ...]
    reference: str
    why: str
    reference_runner: str = ""
    reference_details: Mapping[str, str] = field(default_factory=dict)
    checkpoint: str = ""
    given: Given = "path"
    own_golden: OwnGolden | None = None
    limits: ParityLimits
    limits_source: str
    labels_given: bool = False
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bundle_notes: tuple[str, ...] = ()
    measured_on: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, context: RunContext) -> Circumstances:
        """Of a run that is under way."""
        bundle, runner, own = context.bundle, context.runner, context.own_model
        reference = own or context.reference_runner
        measured_on: dict[str, Any] = {"engine": dict(runner.facts), "batch": 1, "readers": context.readers}
        if reference is not None:
            measured_on["reference"] = dict(reference.facts)
        return cls(
            engine=_engine_facts(runner),
            bundle=_bundle_facts(bundle, runner),
            findings=bundle.findings,
            thresholds=tuple(float(value) for value in bundle.thresholds),
            reference=context.reference.kind,
            why=context.reference.why,
            reference_runner="" if reference is None else reference.name,
            reference_details={} if reference is None else _texts(reference.facts),
            checkpoint=context.reference.checkpoint.name if context.reference.checkpoint else "",
            given=own.given if own else "path",
            own_golden=bundle.own_golden,
            limits=context.limits,
            limits_source=context.limits_source,
            labels_given=context.labels is not None,
            command=context.command,
            versions=_versions(bundle),
            notes=context.notes,
            bundle_notes=tuple(str(note) for note in bundle.manifest.get("notes", ())),
            measured_on=measured_on,
        )

    def origin(self) -> dict[str, str]:
        """Who answered, as each line of findings says it: engine, bundle and, where there is one, the adapter."""
        facts = {"engine": self.engine.name, "bundle": self.bundle.digest}
        if self.bundle.adapter is None or self.bundle.adapter_sha256 is None:
            return facts
        return {**facts, "adapter": self.bundle.adapter, "adapter_sha256": self.bundle.adapter_sha256}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. Paths of scans are not in it."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        parts = {"engine": asdict(self.engine), "bundle": asdict(self.bundle), "limits": self.limits.to_dict()}
        golden = None if self.own_golden is None else self.own_golden.to_dict()
        return {**data, **parts, "own_golden": golden}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Circumstances:
        """The inverse of :meth:`to_dict`.

        Raises:
            ConfigError: something else.
        """
        try:
            lists = {name: tuple(data[name]) for name in ("findings", "thresholds", "notes", "bundle_notes")}
            parts = {"engine": EngineFacts(**data["engine"]), "bundle": BundleFacts(**data["bundle"])}
            golden = None if data["own_golden"] is None else OwnGolden.from_dict(data["own_golden"])
            if data["given"] not in GIVEN:
                raise ValueError(f"given: {shown(data['given'])}")
            limits = limits_from(data["limits"])[0]
            return Circumstances(**{**data, **lists, **parts, "limits": limits, "own_golden": golden})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"the description of the run is damaged ({error!r})") from error


def _engine_facts(runner: Runner) -> EngineFacts:
    facts = {name: value for name, value in runner.facts.items() if not name.startswith("adapter")}
    runtime = f"{facts.pop('runtime')} {facts.pop('version')}"
    device, threads = str(facts.pop("device")), facts.pop("threads", None)
    return EngineFacts(
        name=runner.name,
        precision=str(runner.precision),
        runtime=runtime,
        device=device,
        threads=threads,
        details=_texts(facts),
    )


def _bundle_facts(bundle: Bundle, runner: Runner) -> BundleFacts:
    graph = None
    if not runner.name.startswith("torch"):
        graph = str(bundle.manifest["files"][bundle.graph(runner.precision).file])
    return BundleFacts(
        digest=bundle.digest,
        checkpoint_sha256=bundle.checkpoint_sha256,
        graph_sha256=graph,
        grid=bundle.grid.to_dict(),
        adapter=None if bundle.using is None else bundle.using.name,
        adapter_sha256=None if bundle.using is None else bundle.using.digest,
    )


def _texts(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items()}


def _versions(bundle: Bundle) -> dict[str, str]:
    return {
        "molre-edge": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        **{f"{name} at export": str(version) for name, version in bundle.manifest["tool"].items()},
    }

"""Whether an engine fits a GPU and a version, from what its JSON says."""

from __future__ import annotations

import pytest

from molre_edge.engines.cuda.driver import Gpu
from molre_edge.engines.tensorrt.api import Target
from molre_edge.engines.tensorrt.fit import BuiltFor, here, why_not_gpu, why_not_version
from molre_edge.specs import Precision


def built(target: Target = Target.RTX, *capabilities: tuple[int, int], **changes: object) -> BuiltFor:
    facts: dict[str, object] = {
        "version": "1.7.1.116",
        "capabilities": frozenset(capabilities) or None,
        "built_on": here(),
        "version_compatible": False,
    }
    return BuiltFor(target, Precision.FP16, **{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (12, 0), (12, 1)])
def test_a_portable_engine_runs_on_the_library_s_default_list(capability: tuple[int, int]) -> None:
    assert why_not_gpu(built(), Gpu("A", capability, 0)) is None


@pytest.mark.parametrize("capability", [(7, 5), (8, 7), (9, 0), (11, 0), (10, 0)])
def test_and_on_no_other(capability: tuple[int, int]) -> None:
    told = why_not_gpu(built(), Gpu("A", capability, 0))
    assert told is not None and told.startswith(
        "it was built for sm80, sm86, sm89, sm120 and newer, and the GPU here is A"
    )


def test_an_engine_for_named_capabilities_runs_on_those_alone() -> None:
    assert why_not_gpu(built(Target.RTX, (7, 5), (8, 6)), Gpu("A", (7, 5), 0)) is None
    told = why_not_gpu(built(Target.RTX, (7, 5), (8, 6)), Gpu("A", (8, 9), 0))
    assert told == (
        "it was built for sm75, sm86, and the GPU here is A (sm89); build it again with --compute-capability sm89, or "
        "with --target here on this machine"
    )


@pytest.mark.parametrize("capability", [(9, 0), (8, 7), (11, 0)])
def test_no_build_is_advised_that_tensorrt_rtx_can_not_make(capability: tuple[int, int]) -> None:
    told = why_not_gpu(built(), Gpu("A", capability, 0))
    assert told is not None and "--compute-capability" not in told
    assert told.endswith("; TensorRT-RTX has nothing for this GPU: build one with --target here on this machine")


def test_an_engine_for_one_machine_does_not_go_to_another_kind() -> None:
    assert why_not_gpu(built(Target.HERE, (8, 7)), Gpu("Orin", (8, 7), 0)) is None
    told = why_not_gpu(built(Target.HERE, (8, 7), built_on="Linux sparc"), Gpu("Orin", (8, 7), 0))
    assert told == f"it was built on Linux sparc, and this is {here()}; build it again here"


@pytest.mark.parametrize(
    ("compatible", "version", "fits"),
    [(False, "1.7.1.116", True), (False, "1.7.2", False), (True, "1.8", True), (True, "1.6.9", False)],
)
def test_only_a_version_compatible_engine_runs_on_a_newer_library(compatible: bool, version: str, fits: bool) -> None:
    assert (why_not_version(built(version_compatible=compatible), "TensorRT", version) is None) == fits

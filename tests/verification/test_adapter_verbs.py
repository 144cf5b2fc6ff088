"""Adapters of a real bundle: packed, added after a check, chosen, removed; what does not belong there is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.adapters.file import read_adapter, write_adapter
from molre_edge.adapters.store import ADAPTERS, AdapterStore
from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.choice import choose_engine
from molre_edge.errors import AdapterError, BundleError, InUseError, ParityFailedError
from molre_edge.export.exporter import FIRST_ADAPTER
from molre_edge.locks import hold
from molre_edge.parity import Outputs
from molre_edge.specs import Precision
from molre_edge.verification.adapter_verbs import (
    add_adapter,
    default_adapter,
    list_adapters,
    remove_adapter,
    rollback_adapter,
)
from molre_edge.verification.passed import VerifiedRecord

FOUR = ("bleed", "infarct", "shift", "own-finding")


@pytest.fixture
def box(adapter_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter_bundle, tmp_path / "edge-bundle"))


def answers(box: Path, name: str | None, engine: str = "onnxruntime:fp32") -> tuple[Bundle, Outputs]:
    bundle = Bundle.open(box).select(name)
    with choose_engine(engine, bundle).runner as runner:
        outputs = runner.run(bundle.golden().volumes).outputs
        for spec in runner.output_specs:
            assert getattr(outputs, spec.name).shape[1:] == spec.shape[1:]
        return bundle, outputs


def largest(one: Outputs, other: Outputs) -> float:
    assert one.gates is not None and other.gates is not None
    pairs = ((one.logits, other.logits), (one.gates, other.gates), (one.embedding, other.embedding))
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def test_an_export_leaves_its_own_adapter_as_the_default(adapter_bundle: Path, tiny_checkpoint: Path) -> None:
    listed = list_adapters(adapter_bundle)
    [first] = listed.adapters
    assert (listed.default, first.name, first.default, first.problem) == (FIRST_ADAPTER, FIRST_ADAPTER, True, None)
    bundle = Bundle.open(adapter_bundle)
    assert first.findings == bundle.findings and (first.experts, first.rank) == (3, 2)
    assert first.checkpoint_sha256 == bundle.checkpoint_sha256
    assert not [name for name in bundle.manifest["files"] if name.startswith(ADAPTERS)]


def test_two_trainings_answer_on_one_bundle_as_pytorch_does(box: Path, other_adapter: Path) -> None:
    added = add_adapter(other_adapter, bundle=box)
    assert [(each.engine, each.passed) for each in added.checks] == [
        ("onnxruntime:fp32", True),
        ("onnxruntime:fp16", True),
    ]
    assert (added.name, added.default, added.previous) == ("other", False, None)
    for name in ("other", None, "other"):
        bundle, got = answers(box, name)
        assert bundle.using is not None and bundle.using.name == (name or FIRST_ADAPTER)
        assert got.logits.shape[1] == len(bundle.findings)
        assert largest(got, bundle.golden().outputs) < 1e-4  # of logits up to 5, after routers with large weights
    assert Bundle.open(box).select("other").findings == FOUR
    assert Bundle.open(box).select("other").thresholds.tolist() == [0.3, 0.4, 0.5, 0.6]


def test_what_passed_when_it_was_added_is_not_asked_again(box: Path, other_adapter: Path, tmp_path: Path) -> None:
    from molre_edge.verification.golden_check import choose_limits, require_verified

    record = VerifiedRecord(tmp_path / "verified.json")
    add_adapter(other_adapter, bundle=box, record=record)
    for name, words in (("other", "verified on this machine on"), (None, "verified now in")):
        bundle = Bundle.open(box).select(name)
        with choose_engine("onnxruntime:fp32", bundle).runner as runner:
            choice = choose_limits(bundle, Precision.FP32, None)
            assert require_verified(bundle, runner, choice, record).startswith(words)


def chosen(bundle: Bundle, name: str | None = None) -> str:
    using = bundle.select(name).using
    assert using is not None
    return using.name


def test_the_expected_digest_stands_for_the_export_s_own_adapter_and_no_other_default(
    box: Path, other_adapter: Path
) -> None:
    digest = Bundle.open(box).digest
    assert chosen(Bundle.open(box, expect_digest=digest)) == FIRST_ADAPTER
    add_adapter(other_adapter, bundle=box)
    default_adapter("other", bundle=box)
    assert chosen(Bundle.open(box)) == "other"
    for pinned in (Bundle.open(box, expect_digest=digest), Bundle.of(Bundle.open(box), expect_digest=digest)):
        with pytest.raises(AdapterError, match=r"stands for the adapter .*; the default is now other .* name it with"):
            pinned.select()
        assert [chosen(pinned, name) for name in ("other", FIRST_ADAPTER)] == ["other", FIRST_ADAPTER]


def changed(path: Path, out: Path, **changes: Any) -> Path:
    write_adapter(replace(read_adapter(path), **changes), out)
    return out


def test_an_adapter_that_answers_otherwise_here_is_not_added(box: Path, other_adapter: Path, tmp_path: Path) -> None:
    golden = read_adapter(other_adapter).golden
    wrong = changed(other_adapter, tmp_path / "wrong.adapter", golden=replace(golden, logits=golden.logits + 0.1))
    with pytest.raises(ParityFailedError, match="onnxruntime:fp32 does not answer the golden volumes as PyTorch did"):
        add_adapter(wrong, bundle=box)
    assert [each.name for each in list_adapters(box).adapters] == [FIRST_ADAPTER]
    assert len(list((box / ADAPTERS).iterdir())) == 2


def test_an_adapter_of_another_model_or_for_other_golden_volumes_is_refused(
    box: Path, other_adapter: Path, tmp_path: Path
) -> None:
    fit = read_adapter(other_adapter).fit
    foreign = changed(other_adapter, tmp_path / "foreign.adapter", fit=replace(fit, backbone_sha256="0" * 64))
    with pytest.raises(AdapterError, match=r"does not fit this bundle\. Different backbone's weights"):
        add_adapter(foreign, bundle=box)
    elsewhere = changed(other_adapter, tmp_path / "elsewhere.adapter", golden_volumes="0" * 64)
    with pytest.raises(AdapterError, match=r"other golden volumes .* 'molre-edge adapter pack CHECKPOINT --bundle"):
        add_adapter(elsewhere, bundle=box)


def test_a_value_beyond_float16_is_refused_before_anything_runs(box: Path, other_adapter: Path, tmp_path: Path) -> None:
    adapter = read_adapter(other_adapter)
    name = next(name for name in adapter.tensors if name.endswith(".B"))
    large = {**adapter.tensors, name: np.full_like(adapter.tensors[name], 1e5)}
    with pytest.raises(AdapterError, match=r"reaches 1e\+05, and the float16 graph can hold 65504 at most"):
        add_adapter(changed(other_adapter, tmp_path / "large.adapter", tensors=large), bundle=box)


def test_a_new_version_can_be_taken_back_and_a_removed_one_is_gone(
    box: Path, other_adapter: Path, tmp_path: Path
) -> None:
    first = add_adapter(other_adapter, bundle=box)
    newer = changed(other_adapter, tmp_path / "newer.adapter", thresholds=np.full(4, 0.9))
    second = add_adapter(newer, bundle=box)
    assert second.previous == first.digest
    assert {each.name: each.digest for each in rollback_adapter("other", bundle=box).adapters}["other"] == first.digest
    with pytest.raises(AdapterError, match="default: there is no version before"):
        rollback_adapter(bundle=box)
    assert default_adapter("other", bundle=box).default == "other"
    assert Bundle.open(box).select().findings == FOUR
    assert [each.name for each in remove_adapter(FIRST_ADAPTER, bundle=box).adapters] == ["other"]
    with pytest.raises(AdapterError, match="other is the bundle's default"):
        remove_adapter("other", bundle=box)


def test_a_damaged_version_is_listed_as_such_and_never_gone_back_to(
    box: Path, other_adapter: Path, tmp_path: Path
) -> None:
    first = add_adapter(other_adapter, bundle=box)
    add_adapter(changed(other_adapter, tmp_path / "newer.adapter", thresholds=np.full(4, 0.9)), bundle=box)
    (box / ADAPTERS / f"{first.digest}.adapter").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="altered or damaged"):
        rollback_adapter("other", bundle=box)
    path = box / ADAPTERS / f"{AdapterStore(box).read('other').digest}.adapter"
    path.write_bytes(b"damaged")
    listed = {each.name: each.problem for each in list_adapters(box).adapters}
    assert listed[FIRST_ADAPTER] is None and "altered or damaged" in str(listed["other"])


def test_a_bundle_that_is_being_written_is_left_alone(box: Path, other_adapter: Path) -> None:
    with hold(box, "molre-edge build"), pytest.raises(InUseError, match="molre-edge build"):
        add_adapter(other_adapter, bundle=box)


def test_a_bundle_whose_graphs_hold_what_was_trained_takes_no_adapter(tiny_bundle: Path, other_adapter: Path) -> None:
    with pytest.raises(AdapterError, match=r"take no adapter\. Export the checkpoint again with --adapters inputs"):
        add_adapter(other_adapter, bundle=tiny_bundle)
    with pytest.raises(AdapterError, match="take no adapter"):
        Bundle.open(tiny_bundle).select("other")
    assert Bundle.open(tiny_bundle).select().using is None

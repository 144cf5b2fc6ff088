"""Golden answers of the user's own model: stored if the checkpoint answers alike, else refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from molre_edge.bundle.bundle import Bundle
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import ConfigError, ExportError, OwnModelError, ParityFailedError, UsageError
from molre_edge.export.exporter import export_bundle, export_checkpoint
from molre_edge.export.own_reference import COMPARISON, OwnReference, open_own_reference
from molre_edge.model.checkpoint import LoadedCheckpoint
from molre_edge.own_model.answers import ANSWERS, write_answers
from molre_edge.own_model.inputs_folder import InputScan, InputsFolder
from molre_edge.own_model.write_inputs import _save
from molre_edge.parity import Outputs
from molre_edge.specs import Grid, Precision

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def rebuild(checkpoint: LoadedCheckpoint, volumes: npt.NDArray[np.float16]) -> Outputs:
    with TorchRunner(checkpoint.model, device="cpu") as runner:
        return runner.run(volumes).outputs


@pytest.fixture
def make(checkpoint: LoadedCheckpoint, volumes: npt.NDArray[np.float16], rebuild: Outputs, tmp_path: Path) -> Make:
    """A folder of inputs and answers; `change` alters the logits of the own model."""

    def go(
        change: Callable[[Any], Any] = lambda logits: logits, count: int = 6, grid: Grid | None = None, **arrays: Any
    ) -> Path:
        folder, scans = tmp_path / "inputs", []
        for part in ("hu", "grid"):
            (folder / part).mkdir(parents=True)
        for place in range(count):
            name = f"scan-{place + 1:04d}"
            sha256 = _save(folder / "grid" / f"{name}.npz", {"volume": volumes[place]})
            scans.append(InputScan(name, f"path-{place}", (), "0" * 64, sha256))
        findings = checkpoint.config.findings
        InputsFolder(folder, grid or checkpoint.config.grid, tuple(scans)).write({})
        given = {"logits": change(rebuild.logits[:count].copy())}
        write_answers(
            folder / ANSWERS,
            given="path",
            scans=tuple(scan.scan for scan in scans),
            findings=findings,
            arrays={**given, **arrays},
        )
        return folder

    return go


def opened(checkpoint: LoadedCheckpoint, folder: Path, keep: int | None = None) -> OwnReference:
    return open_own_reference(folder, checkpoint.config, note="the model of the study", keep=keep)


@pytest.mark.usefixtures("traced_once")
def test_the_own_model_s_answers_become_the_golden_answers(
    checkpoint: LoadedCheckpoint, rebuild: Outputs, make: Make, tmp_path: Path
) -> None:
    own = opened(checkpoint, make(lambda logits: logits + 5e-5), keep=3)
    result = export_bundle(
        checkpoint,
        tmp_path / "b",
        own.volumes(),
        golden_origin="x",
        adapters="constants",
        precisions=(Precision.FP32,),
        own=own,
    )
    bundle = Bundle.open(tmp_path / "b")
    golden = bundle.golden()
    assert len(golden.volumes) == 3
    assert np.abs(golden.outputs.logits - (rebuild.logits[:3] + 5e-5)).max() < 2e-6
    assert np.abs(golden.outputs.embedding - rebuild.embedding[:3]).max() < 1e-5
    assert bundle.own_golden == result.own and bundle.own_golden is not None
    assert bundle.own_golden.note == "the model of the study" and bundle.own_golden.outputs == ("logits",)
    assert bundle.own_golden.max_abs_dlogit == pytest.approx(5e-5, rel=0.1)
    headline = bundle.manifest["parity"]["fp32"]["verdict"]["headline"]
    assert headline == "Parity passed: as your model answered (answers.npz, 6 scans, from scan files)"
    assert result.to_dict()["own_model"]["file"] == ANSWERS


def test_a_checkpoint_that_answers_otherwise_is_refused_before_its_graph_is_made(
    checkpoint: LoadedCheckpoint, make: Make, tmp_path: Path
) -> None:
    def shifted(logits: Any) -> Any:
        logits[2, 7] += 0.5
        return logits

    folder = make(shifted)
    own = opened(checkpoint, folder)
    name = checkpoint.config.findings[7]
    with pytest.raises(ParityFailedError, match=rf"1 of 75 findings differ[^:]*:\n  {name}: \|Δlogit\| up to 0.5"):
        export_bundle(checkpoint, tmp_path / "b", own.volumes(), golden_origin="x", adapters="constants", own=own)
    assert not (tmp_path / "b").exists()
    report = json.loads((folder / COMPARISON).read_text())
    assert [each["finding"] for each in report["findings"] if each["differs"]] == [name]


def test_reversed_findings_are_refused_and_recognised(checkpoint: LoadedCheckpoint, make: Make, tmp_path: Path) -> None:
    own = opened(checkpoint, make(lambda logits: logits[:, ::-1]))
    with pytest.raises(ParityFailedError, match="in reverse order"):
        export_bundle(checkpoint, tmp_path / "b", own.volumes(), golden_origin="x", adapters="constants", own=own)


def test_inputs_of_another_grid_or_too_few_are_refused(checkpoint: LoadedCheckpoint, make: Make) -> None:
    folder = make(grid=Grid(slices=3, rows=32, cols=48, field_mm=200.0))
    with pytest.raises(ConfigError, match=r"written for the grid .*field_mm=200.0.* and the checkpoint has .*256.0"):
        opened(checkpoint, folder)


def test_one_scan_proves_no_routing(checkpoint: LoadedCheckpoint, make: Make) -> None:
    with pytest.raises(ExportError, match="1 scan; expected at least 2"):
        opened(checkpoint, make(count=1))


def test_arguments_that_do_not_fit_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both name the golden volumes"):
        export_checkpoint("none.pt", tmp_path / "b", golden="scans", reference_answers="inputs")
    with pytest.raises(UsageError, match="name their folder"):
        export_checkpoint("none.pt", tmp_path / "b", reference_note="mine")
    with pytest.raises(UsageError, match="at most 1000 characters"):
        export_checkpoint("none.pt", tmp_path / "b", reference_answers="inputs", reference_note="x" * 1001)
    with pytest.raises(UsageError, match="printable"):
        export_checkpoint("none.pt", tmp_path / "b", reference_answers="inputs", reference_note="\x1b[31mred")


def test_answers_that_are_missing_are_asked_for(checkpoint: LoadedCheckpoint, make: Make) -> None:
    folder = make()
    (folder / ANSWERS).unlink()
    with pytest.raises(OwnModelError, match=r"Expected your model's answers. The file answer_scans.py"):
        opened(checkpoint, folder)

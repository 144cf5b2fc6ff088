"""The folder for another program: volumes as molre-edge reads them, and a script that only has to be filled in."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molre_edge.errors import BundleError, InUseError, OwnModelError, ScanError
from molre_edge.findings import default_findings
from molre_edge.locks import hold
from molre_edge.own_model.answers import read_answers
from molre_edge.own_model.inputs_folder import open_inputs
from molre_edge.own_model.write_inputs import ReferenceInputs, write_reference_inputs
from molre_edge.scans import find_scans, read_scan, to_grid


@pytest.fixture(scope="module")
def written(tiny_scans: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ReferenceInputs:
    scans = tmp_path_factory.mktemp("with a bad one") / "scans"
    shutil.copytree(tiny_scans, scans)
    (scans / "head-5.nii.gz").write_bytes(b"\x1f\x8b" + b"x" * 100)
    return write_reference_inputs(scans, scans.parent / "inputs", checkpoint=tiny_checkpoint)


def test_it_holds_the_scans_as_molre_edge_reads_them(written: ReferenceInputs, tiny_scans: Path) -> None:
    inputs = open_inputs(written.folder)
    assert [scan.scan for scan in inputs.scans] == list(written.scans) == [f"scan-000{i}" for i in range(1, 5)]
    for scan, source in zip(inputs.scans, find_scans(tiny_scans).scans, strict=True):
        volume = read_scan(source)
        with np.load(written.folder / scan.hu, allow_pickle=False) as hu:
            assert hu["hu"].dtype == np.float32 and (hu["hu"] == volume.hu).all()
            assert (hu["positions_mm"] == volume.positions_mm).all()
            assert tuple(hu["pixel_mm"]) == volume.pixel_mm and str(hu["units"]) == "Hounsfield units"
        assert (inputs.grid_volume(scan) == to_grid(volume, inputs.grid)).all()
        with np.load(written.folder / scan.grid, allow_pickle=False) as grid:
            low, high = grid["range_mm"]
            assert 0 < high - low <= inputs.grid.height_mm and grid["centre_mm"].shape == (2,)
        assert Path(scan.path).exists() and len(scan.files) == len(source.files)


def test_a_scan_that_cannot_be_used_is_listed_and_stops_nothing(written: ReferenceInputs) -> None:
    (bad,) = written.rejected
    assert bad.path.name == "head-5.nii.gz" and bad.code and written.exit_code == 4
    assert json.loads((written.folder / "inputs.json").read_text())["rejected"][0]["code"] == bad.code


def test_only_its_user_can_enter_it(written: ReferenceInputs) -> None:
    assert stat.S_IMODE(written.folder.stat().st_mode) == 0o700


def test_the_script_writes_answers_once_it_is_filled_in(written: ReferenceInputs) -> None:
    path = written.folder / "answer_scans.py"
    text = path.read_text()
    filled = text.replace("FINDINGS = []", 'FINDINGS = ["a", "b"]').replace('GIVEN = ""', 'GIVEN = "hu"')
    filled = filled.replace(
        '    raise NotImplementedError("call your model here")', '    return [load(scan["hu"])["hu"].mean(), 1.0]'
    )
    path.write_text(filled)
    subprocess.run([sys.executable, "-I", str(path)], check=True)
    answers = read_answers(written.folder / "answers.npz")
    assert (answers.scans, answers.findings, answers.given) == (written.scans, ("a", "b"), "hu")
    path.write_text(text)


def test_a_folder_that_holds_something_is_kept(tmp_path: Path, tiny_scans: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(OwnModelError, match=r"exists already\. Choose another folder"):
        write_reference_inputs(tiny_scans, tmp_path, checkpoint=tiny_checkpoint)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_folder_that_another_process_writes_is_refused(
    tmp_path: Path, tiny_scans: Path, tiny_checkpoint: Path
) -> None:
    with hold(tmp_path / "inputs", "another one"), pytest.raises(InUseError, match="in use by"):
        write_reference_inputs(tiny_scans, tmp_path / "inputs", checkpoint=tiny_checkpoint)
    assert not (tmp_path / "inputs").exists()


def test_what_is_missing_is_named_and_leaves_nothing(tmp_path: Path, tiny_scans: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        write_reference_inputs(tiny_scans, tmp_path / "out", bundle=tmp_path / "none")
    with pytest.raises(ScanError, match="neither a file nor a folder"):
        write_reference_inputs(tmp_path / "none", tmp_path / "out", checkpoint=tiny_checkpoint)
    (tmp_path / "bad.nii.gz").write_bytes(b"\x1f\x8b" + b"x" * 100)
    with pytest.raises(OwnModelError, match="none of the scans can be used"):
        write_reference_inputs(tmp_path / "bad.nii.gz", tmp_path / "out", checkpoint=tiny_checkpoint)
    assert not (tmp_path / "out").exists()


def damage(folder: Path, how: str) -> None:
    path, first = folder / "inputs.json", folder / "grid" / "scan-0001.npz"
    data: dict[str, Any] = json.loads(path.read_text())
    if how == "altered":
        with np.load(first) as arrays:
            np.savez(first, **{**arrays, "volume": arrays["volume"] + 1})
    elif how == "link":
        first.rename(folder / "real.npz")
        first.symlink_to(folder / "real.npz")
    elif how == "name":
        data["scans"][0]["scan"] = "../scan-0001"
        path.write_text(json.dumps(data))
    elif how == "cut":
        path.write_text(path.read_text()[:100])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("altered", "altered since it was written"),
        ("link", "a symbolic link"),
        ("name", "unexpected entry"),
        ("cut", "damaged, not JSON"),
    ],
)
def test_a_damaged_folder_is_refused(how: str, words: str, written: ReferenceInputs, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written.folder, tmp_path / "copy"))
    damage(folder, how)
    with pytest.raises(OwnModelError, match=words):
        inputs = open_inputs(folder)
        inputs.grid_volume(inputs.scans[0])


MODEL = """
import numpy as np

def answer(hu):
    mean = hu.mean()
    if FAILS and hu.shape[0] == 12 and not getattr(answer, "asked", False):
        answer.asked = True
        raise ValueError("an odd scan")
    return {name: np.float32(0.25) for name in FINDINGS}
"""


@pytest.mark.parametrize("fails", [False, True])
def test_the_user_s_own_model_answers_at_once(
    fails: bool, tmp_path: Path, tiny_scans: Path, tiny_checkpoint: Path
) -> None:
    names = [finding.name for finding in default_findings()][::-1]
    (tmp_path / "mine.py").write_text(f"FAILS, FINDINGS = {fails}, {names}\n{MODEL}")
    result = write_reference_inputs(
        tiny_scans, tmp_path / "inputs", checkpoint=tiny_checkpoint, model=f"{tmp_path}/mine.py:answer"
    )
    assert result.answers == tmp_path / "inputs" / "answers.npz"
    answers = read_answers(result.answers)
    assert (answers.given, answers.scans) == ("hu", result.scans) and len(answers.findings) == 75
    assert len(result.scans) == 4 - fails and [each.code for each in result.rejected] == ["own_model_failed"] * fails
    assert sorted(path.stem for path in (tmp_path / "inputs" / "hu").iterdir()) == list(result.scans)
    assert answers.logits.low[0, 0] == pytest.approx(np.log(1 / 3), abs=1e-6)

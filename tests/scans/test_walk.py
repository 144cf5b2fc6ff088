"""Whatever lies under a path, and whatever happens to it meanwhile, costs only itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import find_scans, read_scan

_CAPABILITIES = "-dac_override,-dac_read_search"
AS_ORDINARY_USER = ["setpriv", f"--bounding-set={_CAPABILITIES}", f"--inh-caps={_CAPABILITIES}"]

LIST = """
import sys
from pathlib import Path
from molre_edge.errors import ScanError
from molre_edge.scans import find_scans, read_scan
try:
    found = find_scans(Path(sys.argv[1]))
except ScanError as error:
    print(error.code, error)
    raise SystemExit
for scan in found.scans:
    print("scan", scan.path.name, read_scan(scan).hu.shape)
for entry in found.rejected:
    print("rejected", entry.path.name, entry.code, entry.reason)
"""


def as_ordinary_user(path: Path) -> list[str]:
    """What finding and reading say when permissions hold, which they don't for root."""
    command = [sys.executable, "-c", LIST, str(path)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv to be an ordinary user")
        command = AS_ORDINARY_USER + command
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def drop(tmp_path: Path, write_nifti: Any) -> Iterator[Path]:
    """A folder with a scan in `ok` and another in `closed`."""
    root = tmp_path / "drop"
    for name in ("ok", "closed"):
        (root / name).mkdir(parents=True)
        write_nifti(root / name / "head.nii.gz")
    yield root
    if (root / "closed").exists():
        (root / "closed").chmod(0o755)


@pytest.mark.parametrize(
    ("mode", "entry"),
    [(0o644, "head.nii.gz"), (0o000, "closed"), (0o311, "closed")],
    ids=["can't be entered", "shut", "can't be listed"],
)
def test_a_folder_without_permission_is_listed_and_the_rest_is_read(drop: Path, mode: int, entry: str) -> None:
    (drop / "closed").chmod(mode)
    scan, rejected = as_ordinary_user(drop)
    assert scan == "scan head.nii.gz (35, 128, 128)"
    assert rejected.startswith(f"rejected {entry} unreadable")
    assert "permission denied" in rejected and str(drop) not in rejected


def test_a_file_without_permission_is_listed_and_the_rest_is_read(drop: Path, head_folder: Path) -> None:
    shutil.copy(head_folder / "000.dcm", drop / "closed")
    for path in (drop / "closed").iterdir():
        path.chmod(0)
    scan, *rejected = as_ordinary_user(drop)
    assert scan.startswith("scan") and len(rejected) == 2
    assert all("unreadable" in line and "permission denied" in line for line in rejected)


def test_a_path_behind_a_closed_folder_is_refused_without_a_trace(drop: Path) -> None:
    (drop / "closed").chmod(0)
    [line] = as_ordinary_user(drop / "closed" / "head.nii.gz")
    assert line.startswith("unreadable") and "permission denied" in line


def test_files_that_go_while_they_are_looked_at_are_only_missed(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (drop / "closed" / "sub").mkdir()
    (drop / "closed" / "sub" / "late.dcm").write_bytes(b"x")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if isinstance(path, int) or Path(path) != drop / "closed":
            return real(path)
        with real(path) as listed:
            entries = list(listed)
        shutil.rmtree(path)  # an archive moves a study away just now
        return _Listed(entries)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_scans(drop)
    assert [scan.path.parent.name for scan in found.scans] == ["ok"]
    assert {entry.code for entry in found.rejected} == {"unreadable"}
    assert all(str(drop) not in entry.reason for entry in found.rejected)


class _Listed:
    def __init__(self, entries: list[Any]) -> None:
        self._entries = iter(entries)

    def __enter__(self) -> _Listed:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> _Listed:
        return self

    def __next__(self) -> Any:
        return next(self._entries)


def test_a_folder_that_another_process_empties_meanwhile_never_ends_the_run(tmp_path: Path, write_series: Any) -> None:
    write_series(tmp_path / "stays" / "a")
    files = [path for number in range(4) for path in write_series(tmp_path / "goes" / str(number))]
    code = "import os, sys\nfor path in sys.argv[1:]:\n    os.remove(path)\n"
    remover = subprocess.Popen([sys.executable, "-c", code, *map(str, files)])
    codes = set()
    while remover.poll() is None or not codes:
        found = find_scans(tmp_path)
        for scan in found.scans:
            try:
                read_scan(scan)
                codes.add("read")
            except ScanError as error:
                codes.add(error.code)
                assert str(tmp_path) not in str(error)
    assert remover.wait() == 0
    assert "read" in codes
    assert [scan.path for scan in find_scans(tmp_path).scans] == [tmp_path / "stays" / "a"]


def test_pipes_devices_and_loops_are_passed_by(drop: Path) -> None:
    for name in ("pipe.dcm", "pipe.nii.gz", "pipe.zip", "pipe"):
        os.mkfifo(drop / name)
    (drop / "zero.dcm").symlink_to("/dev/zero")
    (drop / "loop").symlink_to(drop)
    (drop / "round").symlink_to(drop / "trip")
    (drop / "trip").symlink_to(drop / "round")
    found = find_scans(drop)
    assert len(found.scans) == 2 and not found.rejected
    codes = {entry.path.name: entry.code for entry in found.ignored}
    assert codes.pop("loop") == codes.pop("round") == codes.pop("trip") == codes.pop("zero.dcm") == "link"
    assert set(codes.values()) == {"not_a_scan"} and len(codes) == 4
    for path in (drop / "pipe", drop / "round"):
        with pytest.raises(ScanError) as caught:
            find_scans(path)
        assert caught.value.code == "no_such_path"


def test_a_pipe_in_the_place_of_a_found_file_is_refused_at_once(drop: Path, head_folder: Path) -> None:
    scans = [*find_scans(drop).scans, *find_scans(head_folder).scans]
    refused = []

    def read() -> None:
        for scan in scans:
            with pytest.raises(ScanError) as caught:
                read_scan(scan)
            refused.append(caught.value.code)

    for scan in scans:
        scan.files[0].unlink()
        os.mkfifo(scan.files[0])
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert refused == ["changed"] * 3

"""Headers are read in processes that may die: each crash costs one file, and what is found is the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel.nifti1  # noqa: F401  (before another of that name is put in its place)
import pydicom.filereader  # noqa: F401
import pytest

from molre_edge.errors import RunError, ScanError
from molre_edge.scans import find_scans
from molre_edge.scans.workers import look as module
from molre_edge.scans.workers.finder import Finder, find_apart
from molre_edge.scans.workers.look import look_at_all
from molre_edge.scans.workers.worker import READY

needs_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")


@pytest.fixture
def parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a library of one's own in the place of nibabel: NIfTI headers then do what it says."""

    def put(code: str) -> None:
        (tmp_path / "nibabel").mkdir()
        (tmp_path / "nibabel" / "__init__.py").touch()
        (tmp_path / "nibabel" / "nifti1.py").write_text(f"def Nifti1Header(*a, **k):\n    {code}")
        (tmp_path / "nibabel" / "nifti2.py").write_text("Nifti2Header = None")
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    return put


@pytest.fixture
def mixed(tiny_scans: Path, tmp_path: Path) -> Path:
    """Two series in DICOM, a good file between them, and two NIfTI files."""
    folder = tmp_path / "scans"
    for name in ("head-1", "head-3"):
        shutil.copytree(tiny_scans / name, folder / name)
    for name in ("a.nii.gz", "head-2.nii.gz"):
        shutil.copy(tiny_scans / "head-4.nii.gz", folder / name)
    (folder / "notes.txt").write_text("no scan")
    return folder


@pytest.fixture(scope="module")
def finder() -> Iterator[Finder]:
    with Finder() as finder:
        yield finder


def test_what_is_found_is_the_same_and_the_process_is_used_again(finder: Finder, mixed: Path) -> None:
    (mixed / "head-1" / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    first = finder.find(mixed, all_series=True)
    process = finder._process
    assert finder.find(mixed / "head-1") == find_scans(mixed / "head-1")
    assert process is not None and finder._process is process
    assert first == find_scans(mixed, all_series=True)
    assert len(first.scans) == 4 and first.rejected and first.ignored


def test_a_relative_path_is_one_of_the_folder_that_is_current_now(
    finder: Finder, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mixed / "other" / "head-1").mkdir(parents=True)
    monkeypatch.chdir(mixed)
    assert [scan.path for scan in finder.find(Path("head-1")).scans] == [Path("head-1")]
    monkeypatch.chdir(mixed / "other")
    assert finder.find(Path("head-1")).scans == ()


def test_a_path_that_is_not_there_is_told_and_the_next_one_is_answered(finder: Finder, mixed: Path) -> None:
    with pytest.raises(ScanError, match="neither a file nor a folder") as error:
        finder.find(mixed / "nothing")
    assert error.value.code == "no_such_path"
    assert len(finder.find(mixed).scans) == 4


@needs_forks
def test_a_header_that_crashes_its_reader_costs_its_file_alone(mixed: Path, parser: Callable[[str], None]) -> None:
    parser("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    found = find_apart(mixed)
    assert [scan.path.name for scan in found.scans] == ["head-1", "head-3"]
    assert [(each.path.name, each.code) for each in found.rejected] == [
        ("a.nii.gz", "reader_crashed"),
        ("head-2.nii.gz", "reader_crashed"),
    ]
    assert all("SIGSEGV" in each.reason for each in found.rejected)


@needs_forks
def test_a_header_that_takes_too_much_memory_costs_its_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_at(file: Path) -> ScanError:
        return ScanError("read", str(len(bytearray(2 * module.LOOK_BYTES if file.name == "bomb" else 1))))

    monkeypatch.setattr(module, "look_at", look_at)
    told = [each for each in look_at_all([Path("a"), Path("bomb"), Path("b")]) if isinstance(each, ScanError)]
    assert [each.code for each in told] == ["read", "too_large", "read"]
    assert str(told[1]) == "its header takes more than 2 GiB of memory"


@needs_forks
def test_a_header_that_is_never_read_to_its_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_at(file: Path) -> ScanError:
        while file.name == "endless":
            time.sleep(1)
        return ScanError("read", file.name)

    monkeypatch.setattr(module, "look_at", look_at)
    files = [Path("a"), Path("endless"), Path("b")]
    told = [(each.code, str(each)) for each in look_at_all(files, seconds=1.5) if isinstance(each, ScanError)]
    assert [code for code, _ in told] == ["read", "reader_too_slow", "read"]
    assert "took more than 1.5 s" in told[1][1]


def test_a_bug_of_ours_costs_one_file_and_tells_its_place_but_not_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_at(file: Path) -> ScanError:
        raise ZeroDivisionError("Muster^Erika")

    monkeypatch.setattr(module, "look_at", look_at)
    [told] = look_at_all([Path("a")])
    assert isinstance(told, ScanError) and told.code == "reader_failed"
    assert "ZeroDivisionError at test_finder.py:" in str(told) and "Muster" not in str(told)


def test_a_process_that_can_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(RunError, match=r"can't be started \(it ends at once\)"):
        find_apart(tmp_path)


def test_the_process_is_started_anew_after_it_was_killed_and_ends_with_the_block(mixed: Path) -> None:
    with Finder() as finder:
        finder._started().kill()
        with pytest.raises(RunError, match=r"ended \(SIGKILL\)"):
            finder.find(mixed / "head-1")
        assert len(finder.find(mixed / "head-1").scans) == 1
        process = finder._process
    assert process is not None and process.poll() is not None


@pytest.mark.parametrize(
    "answer",
    [b"\x80\x04.", b"[]]", b'[["scan", {}]]', b'[["other", []]]', b'[["rejected", ["a"]]]', b"[" * 100_000, b"[1]"],
)
def test_an_answer_of_another_form_ends_the_search_and_is_never_unpickled(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(code: str) -> subprocess.Popen[bytes]:
        parts = b"".join(len(part).to_bytes(8, "little") + part for part in (READY, answer, b""))
        words = f"import sys; sys.stdout.buffer.write({parts!r}); sys.stdout.flush(); sys.stdin.read()"
        return subprocess.Popen([sys.executable, "-S", "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr("molre_edge.scans.workers.finder.start_worker", other)
    with pytest.raises(RunError, match="the process that looks for scans ended"):
        find_apart(tmp_path)

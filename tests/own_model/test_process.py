"""The user's own model in a process: what it may take and return, and every way in which it can fail, by name."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from molre_edge.errors import OwnModelError, UsageError
from molre_edge.own_model.process import OwnModel, OwnModelFailedError
from molre_edge.own_model.spec import is_model_spec, parse_model_spec
from molre_edge.scans import ScanSource, find_scans, read_scan
from molre_edge.specs import Grid

GRID = Grid(slices=2, rows=16, cols=16)
VOLUME = np.arange(512, dtype=np.float16).reshape(GRID.shape)
Start = Callable[..., AbstractContextManager[OwnModel]]


@pytest.fixture(scope="session")
def source(tiny_scans: Path) -> ScanSource:
    return find_scans(tiny_scans / "head-1").scans[0]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def go(code: str, *, findings: tuple[str, ...] = ("a", "b"), seconds: float = 60.0) -> OwnModel:
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(code))
        return OwnModel(parse_model_spec(f"{path}:answer"), GRID, findings, seconds=seconds)

    return go


def test_a_model_that_takes_the_grid_gets_the_engine_s_volume(start: Start, source: ScanSource) -> None:
    code = """
        print("to nobody")
        def answer(grid):
            assert grid.dtype == "float32" and grid.shape == (2, 16, 16)
            return {"logits": {"b": grid.sum(), "a": grid[1, 2, 3]}}
    """
    with start(code) as model:
        answer = model.answer(source, VOLUME)
    assert (model.name, model.given, answer.kind) == ("mine.py:answer", "grid", "logits")
    assert answer.values.tolist() == [256 + 32 + 3, 511 * 256] and answer.compute_ms >= 0


def test_a_model_that_takes_hu_gets_the_scan_as_it_was_read(start: Start, source: ScanSource) -> None:
    code = """
        def answer(hu, pixel_mm, *, positions_mm, unused=1):
            assert hu.dtype == "float32"
            return {"logits": {"a": hu.mean(), "b": positions_mm[0] + pixel_mm[0]}}
    """
    with start(code) as model:
        answer = model.answer(source, VOLUME)
    scan = read_scan(source)
    assert model.given == "hu"
    assert answer.values == pytest.approx([scan.hu.mean(), scan.positions_mm[0] + scan.pixel_mm[0]], rel=1e-6)


def test_a_model_that_takes_a_path_gets_the_series_and_may_import_its_neighbours(
    start: Start, source: ScanSource, tmp_path: Path
) -> None:
    (tmp_path / "beside.py").write_text("def share(files): return len(files) / 100")
    code = """
        import numpy as np
        from beside import share
        def answer(path, files):
            assert path.exists() and all(file.is_file() for file in files)
            return {"a": np.float32(share(files)), "b": 1.0}
    """
    with start(code) as model:
        answer = model.answer(source, VOLUME)
        model.answer(source, VOLUME)
    assert model.given == "path" and answer.kind == "probabilities"
    assert answer.values.tolist() == [pytest.approx(0.12), 1.0]
    low, high = answer.logits.low[0], answer.logits.high[0]
    assert low[0] < np.log(0.12 / 0.88) < high[0] and high[1] == np.inf  # as wide as float32's steps


ALL_SCANS = {
    "x = 1": r"mine.py:answer: has no function 'answer'; it has none",
    "def answer(x): pass": r"its parameters are x; expected one of these names: path \(also files\); hu \(also",
    "def answer(path, grid): pass": "its parameters are path, grid; expected one of these names",
    "def answer(grid, spacing): pass": "its parameter 'spacing' is unknown; beside 'grid' expected grid",
    "raise RuntimeError('no weights')": r"RuntimeError: no weights \(line 1\)",
    "import nowhere_at_all": "ModuleNotFoundError: No module named 'nowhere_at_all'",
    "import os; os._exit(5)": r"its process ended \(exit code 5\)",
    "def answer(grid): return [0.5, 0.5]": "returned list; expected a dictionary from the names of findings",
    "def answer(grid): return {'a': 0.5}": r"no answer for 1 findings \(b\); expected the 2 findings",
    "def answer(grid): return {'a': 0.5, 'b': 0.5, 'c': 0}": r"1 unknown findings \(c\)",
    "def answer(grid): return {'a': 0.5, 'b': grid}": "returned for 'b' a ndarray of shape .*, which is not one number",
    "def answer(grid): return {'a': 0.5, 'b': 3.0}": "probabilities: from 0.5 to 3; expected 0 to 1",
}


@pytest.mark.parametrize("code", ALL_SCANS)
def test_a_function_that_is_wrong_is_an_error_that_says_why(code: str, start: Start, source: ScanSource) -> None:
    with pytest.raises(OwnModelError, match=ALL_SCANS[code]) as caught, start(code) as model:
        model.answer(source, VOLUME)
    assert not isinstance(caught.value, OwnModelFailedError)


ONE_SCAN = {
    "raise ValueError('odd scan')": r"ValueError: odd scan \(line 5\)",
    "import os, sys; print('out of luck', file=sys.stderr, flush=True); os._exit(3)": (
        r"its process ended \(exit code 3\); its last line was: out of luck"
    ),
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": r"its process ended \(SIGSEGV\)",
    "return {'a': 0.5, 'b': float('nan')}": "returned NaN or infinity for b",
}


@pytest.mark.parametrize("line", ONE_SCAN)
def test_a_scan_on_which_it_fails_leaves_the_others(line: str, start: Start, source: ScanSource) -> None:
    code = f"""
        def answer(grid):
            if grid[0, 0, 0] == 0:
                # an odd scan
                {line}
            return {{"a": 0.25, "b": 0.75}}
    """
    code = textwrap.dedent(code).strip() + "\n"
    with start("\n" + code.replace("    if", "    if", 1)) as model:
        with pytest.raises(OwnModelFailedError, match=ONE_SCAN[line]):
            model.answer(source, VOLUME)
        assert model.answer(source, VOLUME + 1).values.tolist() == [0.25, 0.75]


def test_a_model_that_never_answers_is_ended(start: Start, source: ScanSource) -> None:
    code = """
        def answer(grid):
            while True:
                pass
    """
    with start(code, seconds=4.0) as model:
        begun = time.monotonic()
        with pytest.raises(OwnModelFailedError, match="took more than 4 s"):
            model.answer(source, VOLUME)
        assert time.monotonic() - begun < 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_it_started_end_with_it_and_hold_nothing_up(
    start: Start, source: ScanSource, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    code = f"""
        import os, subprocess, time
        from pathlib import Path
        def answer(grid):
            assert subprocess.run(["cat"], capture_output=True).stdout == b""  # stdin is empty, not our jobs
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)
            Path({str(child)!r}).write_text(str(child))
            time.sleep(60)
    """
    begun = time.monotonic()
    with start(code, seconds=2) as model, pytest.raises(OwnModelFailedError, match="took more than 2 s"):
        model.answer(source, VOLUME)
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # its parent is init now, which takes its leave
            os.kill(int(child.read_text()), 0)
            time.sleep(0.05)


def test_its_process_ends_with_the_block(start: Start, source: ScanSource) -> None:
    code = """
        import os
        def answer(grid):
            return {"logits": {"a": os.getpid(), "b": os.getppid()}}
    """
    with start(code) as model:
        process, parent = model.answer(source, VOLUME).values
    assert parent == os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(int(process), 0)


def test_the_words_that_name_a_model() -> None:
    assert is_model_spec("mine.py:answer") and is_model_spec("a folder/mine.py:answer") and is_model_spec("pkg.mod:f")
    assert not any(map(is_model_spec, ("auto", "ckpt.pt", "mine.py", "mine.py:", "a:b.pt", "C:/x.pt", ":f")))


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*none\.py"):
        parse_model_spec(f"{tmp_path}/none.py:answer")


def test_the_identity_changes_with_the_code(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("1")
    before = parse_model_spec(f"{path}:f").identity
    path.write_text("2")
    assert before != parse_model_spec(f"{path}:f").identity

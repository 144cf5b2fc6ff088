"""``molre-edge demo`` before it starts: whose folder it may use. The demo itself runs in tests/test_demo.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("name", ["thesis.tex", "ckpt.pt", "scans"])
def test_a_folder_of_somebody_s_work_is_left_alone_whatever_its_names_are(
    name: str, force: list[str], invoke: Any
) -> None:
    Path("work").mkdir()
    (Path("work") / name).write_text("mine")
    done = invoke("demo", "work", *force)
    assert done.exit_code == 1
    assert f"work: holds {name}, which is not part of a demo" in done.stderr
    assert (Path("work") / name).read_text() == "mine"


def test_an_earlier_demo_is_replaced_on_request_only(invoke: Any) -> None:
    Path("edge-demo/scans").mkdir(parents=True)
    Path("edge-demo/DEMO.txt").touch()
    done = invoke("demo")
    assert done.exit_code == 1
    assert "edge-demo: holds an unfinished demo; 'molre-edge demo edge-demo --force' makes it anew" in done.stderr
    assert Path("edge-demo/scans").exists()


def test_a_demo_that_holds_work_too_is_left_alone(invoke: Any) -> None:
    Path("edge-demo").mkdir()
    for name in ("DEMO.txt", "thesis.tex"):
        Path("edge-demo", name).touch()
    assert invoke("demo", "--force").exit_code == 1
    assert Path("edge-demo/thesis.tex").exists()


def test_a_file_is_no_folder(invoke: Any) -> None:
    Path("file").touch()
    done = invoke("demo", "file")
    assert done.exit_code == 1 and "file: is a file" in done.stderr


def test_without_pytorch_it_says_what_to_install_before_it_makes_anything(spawn: Any) -> None:
    done = spawn("demo", driver=("without", 0))
    assert done.returncode == 1
    assert "The demo needs torch, which is not installed: pip install 'molre-edge[export]'" in done.stderr
    assert not Path("edge-demo").exists()

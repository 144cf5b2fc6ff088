"""docs/reference/python.md is true: every block runs as it stands, one after the other."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from markdown_it import MarkdownIt

from molre_edge.api import VERBS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "python.md"
NEEDS = "<!-- needs "


def blocks() -> list[tuple[str, str]]:
    """Library that a block needs, or nothing, and its content."""
    tokens, found = MarkdownIt("commonmark").parse(PAGE.read_text(encoding="utf-8")), []
    for i, token in enumerate(tokens):
        if token.type == "fence":
            assert token.info == "python", token.content
            comment = tokens[i - 1].content.strip() if tokens[i - 1].type == "html_block" else ""
            found.append((comment.removeprefix(NEEDS).removesuffix(" -->"), token.content))
    return found


def test_every_block_runs(tiny_scans: Path, tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_scans, tmp_path / "scans")
    shutil.copytree(tiny_bundle, tmp_path / "edge-bundle")
    shutil.copy(tiny_checkpoint, tmp_path / "ckpt.pt")
    (tmp_path / "notes.txt").write_text("nothing")
    run = [content for needs, content in blocks() if not needs or importlib.util.find_spec(needs)]
    assert len(run) > 7
    script = tmp_path / "page.py"
    script.write_text("\n".join([*run, "import json, sys", 'print("RESULT", json.dumps(result.to_dict()))']))
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "onnxruntime:fp16 read 12 files" in done.stdout
    assert "not_a_scan" in done.stdout
    assert "4 of 4 scans" not in done.stdout and "1 of 1 scans" in done.stdout  # only the block with progress tells it
    result = json.loads(done.stdout.rsplit("RESULT", 1)[1])
    assert [len(scan["findings"]) for scan in result["findings"]] == [75] * 4


def test_every_verb_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in VERBS if f"`{name}`" not in text] == []

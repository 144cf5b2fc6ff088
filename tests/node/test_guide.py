"""The guide for hospitals is true: its files are written, and its commands run one after the other."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from molre_edge.node.configuration import read_config

PEERS = [Path("/usr/sbin/Orthanc"), Path("/usr/bin/storescu"), Path("/usr/bin/echoscu")]
PORTS = ("8042", "4242", "11112", "11180")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(comment before it, content) of every block."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return [
        (tokens[i - 1].content.strip() if tokens[i - 1].type == "html_block" else "", token.content)
        for i, token in enumerate(tokens)
        if token.type == "fence"
    ]


def test_its_files_are_read(root: Path, tmp_path: Path) -> None:
    found = dict(blocks(root / "docs" / "guides" / "hospital.md"))
    (tmp_path / "node.toml").write_text(found["<!-- file node.toml -->"])
    config = read_config(tmp_path / "node.toml")
    assert (config.destinations[0].name, config.receive.port) == ("orthanc", 11112)
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(found["<!-- file molre-edge-node.service -->"])
    assert (unit["Service"]["KillMode"], unit["Service"]["Restart"]) == ("mixed", "on-failure")


@pytest.mark.nightly
@pytest.mark.skipif(
    not all(map(Path.is_file, PEERS)) or not shutil.which("curl"), reason="needs apt-get install orthanc dcmtk curl"
)
def test_its_commands_end_in_a_report_in_orthanc(
    root: Path, tiny_bundle: Path, tiny_scans: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    (tmp_path / "scans").symlink_to(tiny_scans)
    (tmp_path / "edge-bundle").symlink_to(tiny_bundle)
    ports = {port: str(free_port()) for port in PORTS}
    script = ["set -e", 'trap "kill %1 %2 2>/dev/null || true" EXIT']
    for comment, text in blocks(root / "docs" / "guides" / "hospital.md"):
        for port, free in ports.items():
            text = text.replace(port, free)
        if comment.startswith("<!-- file "):
            (tmp_path / comment.split()[2]).write_text(text)
        elif comment == "<!-- run -->":
            script.append(text)
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env={**os.environ, "PATH": tools}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    log = (tmp_path / "node.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert sorted(line.strip() for line in done.stdout.splitlines() if '"Modality"' in line) == [
        '"Modality" : "OT",', '"Modality" : "SR",'
    ]  # fmt: skip
    assert "sent study=1 version=1 object=sr destination=orthanc" in log and "ended answered=1" in log

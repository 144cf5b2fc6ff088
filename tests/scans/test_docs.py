"""docs/scans.md names every code that a scan can be refused, ignored or warned with."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POSITION = {"ScanError": 0, "ScanWarning": 0, "RejectedScan": 1, "refusal": 0}


def codes_in_source() -> set[str]:
    found = set()
    for path in (ROOT / "molre_edge" / "scans").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            found |= {
                word.value.value
                for word in node.keywords
                if word.arg == "warning" and isinstance(word.value, ast.Constant) and word.value.value
            }
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            at = POSITION.get(name)
            if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                found.add(node.args[at].value)
    return found


def test_every_code_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "scans.md").read_text(encoding="utf-8")
    codes = codes_in_source()
    assert len(codes) > 40
    assert [code for code in sorted(codes) if f"`{code}`" not in text] == []
    rows = re.findall(r"^\| ((?:`[a-z_0-9]+`(?:, )?)+) \|", text, re.MULTILINE)
    documented = {code for row in rows for code in re.findall(r"`([a-z_0-9]+)`", row)}
    assert documented <= codes


def test_every_code_is_seen_in_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "scans").rglob("test_*.py"))
    assert [code for code in sorted(codes_in_source()) if f'"{code}"' not in tests] == []

"""``molre-edge sign``, and commands on machines that trust keys."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def box(tiny_bundle: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, "box"))


def test_from_a_new_key_to_a_machine_that_trusts_it(invoke: Any, box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(invoke("sign", "--new-key", "release.key", "--no-password", "--json").stdout)
    assert made["public_key"] == "release.pub"
    done = invoke("verify", "--bundle", box, "--trust", "release.pub", "--json")
    assert done.exit_code == 1 and "not signed" in json.loads(done.stdout)["problem"]
    signed = invoke("sign", box, "--key", "release.key", "--name", "head-ct", "--release-version", 7)
    assert signed.exit_code == 0 and "as head-ct, version 7" in signed.stdout
    monkeypatch.setenv("MOLRE_EDGE_TRUST", "release.pub")
    done = invoke("verify", "--bundle", box, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["signed"]["version"] == 7
    assert f"Signed: head-ct, version 7, by key {made['key']}" in invoke("verify", "--bundle", box).stdout
    invoke("sign", box, "--key", "release.key", "--name", "head-ct", "--release-version", 6)
    assert "has used version 7" in invoke("verify", "--bundle", box).stderr
    assert invoke("verify", "--bundle", box, "--accept-older").exit_code == 0
    assert invoke("verify", "--bundle", box).exit_code == 0


def test_a_password_comes_from_the_environment_or_is_asked_for(
    invoke: Any, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molre_edge.signing import minisign

    monkeypatch.setattr(minisign, "_OPS", 32768)
    monkeypatch.setattr(minisign, "_MEMORY", 1 << 24)
    monkeypatch.setenv("MOLRE_EDGE_KEY_PASSWORD", "one")
    assert invoke("sign", "--new-key", "release.key").exit_code == 0
    assert invoke("sign", box, "--key", "release.key").exit_code == 0
    monkeypatch.setenv("MOLRE_EDGE_KEY_PASSWORD", "two")
    done = invoke("sign", box, "--key", "release.key")
    assert done.exit_code == 1 and "the password is wrong" in done.stderr


def test_words_that_do_not_fit_together_are_usage_errors(invoke: Any, box: Path) -> None:
    assert invoke("sign").exit_code == 2
    assert invoke("sign", box).exit_code == 2
    assert invoke("sign", box, "--new-key", "a.key").exit_code == 2
    assert not Path("a.key").exists()
    Path("a.key").write_text("nothing")
    done = invoke("sign", box, "--key", "a.key")
    assert done.exit_code == 1 and "not a secret key of minisign" in done.stderr

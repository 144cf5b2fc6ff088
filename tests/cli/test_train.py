"""``molre-edge train`` as a user calls it, and as a kill ends it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from installed_weights import install_weights, stored

from molre_edge.files import sha256_of
from molre_edge.model.backbones.entry import ENTRIES
from molre_edge.model.backbones.registry import backbone_entry
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.model.checkpoint_file import read_checkpoint_file

FINDINGS = ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy")
TINY = ("--backbone", "convnet2d-small", "--grid", "4x32x32", "--findings", ",".join(FINDINGS), "--batch", 4)
"""A model that trains in a moment; its experts are the smaller part, since its own budget is large."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared volumes, shared where reading them is not what is tested."""
    return tmp_path_factory.mktemp("cache")


def metrics(checkpoint: str) -> list[dict[str, str]]:
    with (Path(checkpoint).with_name(f"{Path(checkpoint).stem}-training") / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def same(one: str, two: str) -> bool:
    """Whether two checkpoints have the same configuration and the same weights to the bit."""
    files = [read_checkpoint_file(Path(path)) for path in (one, two)]
    weights = [{**file.state, **(file.backbone or {})} for file in files]
    return files[0].config == files[1].config and all(torch.equal(v, weights[1][n]) for n, v in weights[0].items())


def test_it_trains_and_says_where_everything_lies(tiny_data: Path, cache: Path, invoke: Any) -> None:
    routers = ["--router-level", "volume", "--temperature", 0.5, "--router-lr", 0.002]
    done = invoke("train", tiny_data, *TINY, *routers, "--rank", 2, "--epochs", 2, "--cache", cache)
    assert done.exit_code == 0
    assert "4 validation scans, trained on 12" in done.stdout and "Checkpoint: ckpt.pt" in done.stdout
    assert "has random weights; pass public ones with --backbone-weights" in done.stderr
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines() if "epoch" in line] == [
        "epoch 1",
        "epoch 2",
    ]
    config = load_checkpoint(Path("ckpt.pt")).config
    assert (config.findings, config.grid.shape, config.adapter.experts) == (FINDINGS, (4, 32, 32), 6)
    assert (config.router.level.value, config.router.temperature, config.adapter.alpha) == ("volume", 0.5, 4.0)
    assert float(metrics("ckpt.pt")[-1]["gate_entropy"]) > 0


def test_without_a_folder_the_backbones_installed_weights_are_taken(
    tiny_data: Path, cache: Path, invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = backbone_entry("efficientnet-lite-tiny")
    trained = entry.build(entry.grid, 3, {})
    weights = install_weights(tmp_path / "packages", monkeypatch, stored(trained))
    monkeypatch.setitem(ENTRIES, entry.id, replace(entry, installed=weights))
    words = ["--backbone", entry.id, "--grid", "4x32x32", "--findings", FINDINGS[0], "--epochs", 1, "--cache", cache]
    done = invoke("train", tiny_data, *words, "--without-backbone")
    assert done.exit_code == 0 and "random weights" not in done.stderr
    head = load_checkpoint(Path("ckpt.pt")).model.backbone.get_submodule("conv_head")
    assert torch.equal(head.weight, trained.get_submodule("conv_head").weight)  # type: ignore[arg-type]
    absent = replace(weights, parts=(replace(weights.parts[0], requirement="not-there==1.0"),))
    monkeypatch.setitem(ENTRIES, entry.id, replace(entry, installed=absent))
    done = invoke("train", tiny_data, *words, "-o", "other.pt")
    assert done.exit_code == 1 and "pip install 'molre-edge[weights]'" in " ".join(done.stderr.split())


def test_json_alone_goes_to_stdout(tiny_data: Path, cache: Path, invoke: Any) -> None:
    done = invoke("train", tiny_data, *TINY, "--epochs", 1, "--cache", cache, "--json")
    data = json.loads(done.stdout)
    assert (data["checkpoint"], data["epochs"], data["scans"]) == ("ckpt.pt", 1, {"train": 12, "val": 4})
    assert "Best epoch 1 of 1" in done.stderr


def test_quiet_leaves_only_what_must_not_be_missed(tiny_data: Path, cache: Path, invoke: Any) -> None:
    done = invoke("train", tiny_data, *TINY, "--epochs", 1, "--cache", cache, "--quiet")
    assert done.stdout == "" and all(line.startswith("warning: ") for line in done.stderr.splitlines())


def test_a_pretrained_backbone_is_taken_over_frozen_by_all_three_arms(
    tiny_data: Path, cache: Path, invoke: Any
) -> None:
    invoke(
        "train",
        tiny_data,
        *TINY,
        "--epochs",
        1,
        "--cache",
        cache,
        "--adapter",
        "none",
        "--train-backbone",
        "-o",
        "b.pt",
    )
    source = read_checkpoint_file(Path("b.pt"))
    added = {}
    for arm, *more in (("molre",), ("lora",), ("none",), ("lora", "--match-parameters")):
        name = f"{arm}{len(more)}.pt"
        words = ["--init", "b.pt", "--adapter", arm, *more, "--epochs", 1, "--cache", cache, "--rank", 2, "--json"]
        done = invoke("train", tiny_data, "--findings", ",".join(FINDINGS), *words, "-o", name)
        assert done.exit_code == 0 and "random weights" not in done.stderr
        file = read_checkpoint_file(Path(name))
        assert source.backbone is not None and file.backbone is not None
        assert all(torch.equal(value, file.backbone[key]) for key, value in source.backbone.items())
        added[name] = json.loads(done.stdout)["added_parameters"]
        assert json.loads(done.stdout)["cached_features"] == (arm == "none")
    assert added["none0.pt"] == 0 and 0 < added["lora0.pt"] < added["molre0.pt"]
    assert abs(added["lora1.pt"] - added["molre0.pt"]) < 0.1 * added["molre0.pt"]


def test_a_bad_scan_among_good_ones_is_told_and_gives_exit_code_4(
    tiny_data: Path, cache: Path, invoke: Any, tmp_path: Path
) -> None:
    own = tmp_path / "data"
    own.mkdir()
    for split in ("train", "val", "test"):
        (own / split).mkdir()
        for path in (tiny_data / split).iterdir():
            os.link(path, own / split / path.name)
    lines = (tiny_data / "manifest.csv").read_text().splitlines()
    (own / "bad.nii.gz").write_bytes(b"text")
    (own / "manifest.csv").write_text("\n".join([*lines, "bad.nii.gz,train" + "," * (lines[0].count(",") - 1)]))
    done = invoke("train", own, *TINY, "--epochs", 1, "--cache", cache, "--json")
    assert done.exit_code == 4
    assert [row["scan"] for row in json.loads(done.stdout)["problems"]] == ["bad.nii.gz"]
    assert "warning: bad.nii.gz can't be used: there is no NIfTI header" in done.stderr
    assert Path("ckpt.pt").is_file()


def test_a_finished_training_is_not_overwritten_by_another_unasked(tiny_data: Path, cache: Path, invoke: Any) -> None:
    words = ["train", tiny_data, *TINY, "--epochs", 1, "--cache", cache]
    assert invoke(*words).exit_code == 0
    before = sha256_of(Path("ckpt.pt"))
    done = invoke(*words, "--lr", 0.5)
    assert done.exit_code == 1 and "settings.lr (0.001 there, 0.5 now)" in done.stderr and "--force" in done.stderr
    done = invoke(*words, "--alpha", 3, "--router-lr", 0.5, "--weight-decay", 0)
    told = " ".join(done.stderr.split())
    assert done.exit_code == 1 and "config.adapter.alpha (16.0 there, 3.0 now)" in told
    assert "settings.router_lr (None there, 0.5 now), settings.weight_decay (0.01 there, 0.0 now)" in told
    assert sha256_of(Path("ckpt.pt")) == before
    assert invoke(*words, "--lr", 0.5, "--force").exit_code == 0
    assert sha256_of(Path("ckpt.pt")) != before


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--adapter", "lora", "--router-lr", 0.1],
            2,
            "--router-lr: works only with --adapter molre and two experts or more",
        ),
        (["--backbone", "convnet3d-small", "--router-level", "slice"], 2, "--router-level slice: the backbone"),
        (["--preset", "pillar-0"], 1, "preset pillar-0: there is none, since its windows"),
        (["--weight-decay", -1], 1, "weight_decay: expected a number of at least 0, got -1.0"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_a_scan_is_read(
    words: list[Any], code: int, message: str, tiny_data: Path, invoke: Any
) -> None:
    done = invoke("train", tiny_data, *TINY, *words)
    assert done.exit_code == code and message in " ".join(done.stderr.split())
    assert not Path("ckpt-training").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "ckpt.onnx"], "--out ckpt.onnx: expected the name of a file that ends in .pt or .safetensors"),
        (["-o", "folder.pt"], "--out folder.pt: expected the name of a file"),
        (["--sensitivity", "0"], "--sensitivity 0.0: expected a share above 0, up to 1"),
        (["--adapter", "molre", "--match-parameters"], "--match-parameters: works only with --adapter lora"),
        (["--adapter", "none", "--module", "conv1"], "--module: --adapter none adapts no module"),
        (["--grid", "4x32"], "--grid 4x32: expected SLICESxROWSxCOLS"),
        (["--grid", "4x8x8"], "--grid 4x8x8: grid.rows: expected a whole number from 16 to 2048"),
        (["--findings", "a,,b"], "--findings a,,b: expected names separated by commas"),
        (["--device", "gpu"], "--device gpu: expected cpu, cuda or cuda:N"),
        (["--device", "cuda:99"], "--device cuda:99: PyTorch sees"),
        (["--without-backbone"], "--without-backbone: the backbone's weights exist only in this training"),
        (
            ["--init", "other.pt", "--backbone", "dinov3-vits16"],
            "--init has the backbone convnet2d-small; use only one",
        ),
    ],
)
def test_a_wrong_use_is_told_before_anything_is_done(
    words: list[str], message: str, tiny_data: Path, invoke: Any
) -> None:
    Path("folder.pt").mkdir()
    if "--init" in words:
        from molre_edge.model.checkpoint import save_checkpoint
        from molre_edge.model.classifier import HeadCTClassifier
        from molre_edge.model.defaults import default_config

        save_checkpoint(HeadCTClassifier(default_config("convnet2d-small", adapter="none")), Path("other.pt"))
    given = [] if {"--findings", "--backbone"} & set(words) else list(TINY[:2])
    done = invoke("train", tiny_data, *given, *words)
    assert done.exit_code == 2 and message in " ".join(done.stderr.split())
    assert not Path("ckpt-training").exists()


def test_an_unknown_backbone_is_answered_with_all_there_are(tiny_data: Path, invoke: Any) -> None:
    done = invoke("train", tiny_data, "--backbone", "list")
    assert done.exit_code == 1 and "convnet2d-small" in done.stderr and "dinov3-vitb16" in done.stderr


def test_without_torch_it_says_what_to_install(tiny_data: Path, spawn: Any) -> None:
    done = spawn("train", tiny_data, driver=("without", 0))
    assert done.returncode == 1 and "pip install 'molre-edge[train]'" in done.stderr


# Compared to the bit are processes of their own, as users start them: what ran in this one before (it is not known
# which) can change the last digits.


@pytest.fixture(scope="module")
def whole(tiny_data: Path, cache: Path, spawn: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of two epochs that nobody cut."""
    path = tmp_path_factory.mktemp("uncut") / "whole.pt"
    done = spawn("train", tiny_data, *TINY, "--epochs", 2, "--cache", cache, "-o", path)
    assert done.returncode == 0, done.stderr
    return str(path)


@pytest.mark.parametrize(
    "files",
    [3, 17, 22, 23],
    ids=["while scans are read", "between state and metrics", "before the checkpoint", "before its record"],
)
def test_killed_just_before_some_file_is_there_it_goes_on_to_the_same_end(
    files: int, tiny_data: Path, spawn: Any, whole: str
) -> None:
    words = ["train", tiny_data, *TINY, "--epochs", 2]
    killed = spawn(*words, driver=("SIGKILL", files))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Path("ckpt.pt").exists() == (files == 23)
    done = spawn(*words)
    assert done.returncode == 0, done.stderr
    assert metrics("ckpt.pt") == metrics(whole)
    assert same("ckpt.pt", whole)


def test_killed_amid_features_it_goes_on_to_the_same_end(tiny_data: Path, cache: Path, spawn: Any) -> None:
    words = ["train", tiny_data, *TINY, "--epochs", 2, "--adapter", "none"]
    killed = spawn(*words, driver=("SIGKILL", 21))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(Path("ckpt-training/cache").glob("features-*/[!.]*.npy"))) == 5
    for more in ((), ("--cache", cache, "-o", "whole.pt")):
        done = spawn(*words, *more)
        assert done.returncode == 0, done.stderr
    assert metrics("ckpt.pt") == metrics("whole.pt") and same("ckpt.pt", "whole.pt")


def test_killed_in_the_middle_of_training_and_run_again_it_ends_as_an_uninterrupted_one(
    tiny_data: Path, cache: Path, spawn: Any
) -> None:
    words = ["train", str(tiny_data), *map(str, TINY), "--epochs", "25", "--patience", "25", "--lr", "0.01"]
    words += ["--cache", str(cache)]
    assert spawn(*words, "-o", "whole.pt").returncode == 0
    program = [sys.executable, "-c", "from molre_edge.cli import main; main()", *words]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    table, end = Path("ckpt-training/metrics.csv"), time.monotonic() + 120
    while time.monotonic() < end and not (table.is_file() and len(table.read_text().splitlines()) > 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= len(metrics("ckpt.pt")) < 25 and not Path("ckpt.pt").exists()
    assert spawn(*words).returncode == 0
    assert metrics("ckpt.pt") == metrics("whole.pt") and len(metrics("ckpt.pt")) == 25
    assert same("ckpt.pt", "whole.pt")
    before = sha256_of(Path("ckpt.pt"))
    again = spawn(*words)  # and once more, when it is done
    assert again.returncode == 0 and "reading scans" not in again.stderr
    assert sha256_of(Path("ckpt.pt")) == before

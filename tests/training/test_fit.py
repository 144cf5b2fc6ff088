"""From a data folder to a checkpoint, whatever comes between."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molre_edge.errors import ConfigError, InUseError, RunError
from molre_edge.files import sha256_of
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.model.checkpoint_file import read_checkpoint_file
from molre_edge.model.config import AdapterConfig, ModelConfig
from molre_edge.training.data_manifest import Case, Manifest, read_manifest
from molre_edge.training.fit import Fitted, fit, training_folder
from molre_edge.training.loop import TrainSettings
from molre_edge.training.samples import VolumeSamples, predict
from molre_edge.training.start import new_model
from molre_edge.training.thresholds import set_thresholds
from molre_edge.training.volumes import prepare_volumes

SETTINGS = TrainSettings(epochs=3, batch=4, lr=0.02)


class Recorder:
    """Writes down what it is told; may end it all at some call, as an interruption would."""

    def __init__(self, end_at: str = "") -> None:
        self.told: list[str] = []
        self._end_at = end_at

    def _tell(self, text: str) -> None:
        self.told.append(text)
        if text == self._end_at:
            raise KeyboardInterrupt

    def step(self, name: str) -> None:
        self._tell(f"step: {name}")

    def info(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self._tell(f"warning: {text.split(' ')[0]}")

    def count(self, done: int, total: int | None, unit: str) -> None:
        self._tell(f"{unit}: {done} of {total}")

    def stopping(self) -> None:
        pass


Train = Callable[..., Fitted]


@pytest.fixture
def train(configure: Callable[..., ModelConfig], manifest: Manifest, shared_cache: Path, tmp_path: Path) -> Train:
    """Fits the tiny model in a folder of its own."""

    def go(out: Path = tmp_path / "ckpt.pt", config: ModelConfig | None = None, **options: Any) -> Fitted:
        model = new_model(config or configure(), seed=0)
        given = {"settings": SETTINGS, "cache": shared_cache, "manifest": manifest, **options}
        return fit(model, given.pop("manifest"), out, given.pop("settings"), **given)

    return go


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def same_weights(one: Path, two: Path) -> bool:
    first, second = read_checkpoint_file(one), read_checkpoint_file(two)
    tensors = [{**file.state, **(file.backbone or {})} for file in (first, second)]
    return first.config == second.config and all(torch.equal(value, tensors[1][n]) for n, value in tensors[0].items())


def test_it_leaves_a_checkpoint_metrics_and_a_plot(train: Train, tmp_path: Path) -> None:
    fitted = train()
    assert fitted.folder == training_folder(tmp_path / "ckpt.pt") == tmp_path / "ckpt-training"
    assert {path.name for path in fitted.folder.iterdir()} == {"metrics.csv", "metrics.png", "state.pt"}
    assert (fitted.folder / "metrics.png").read_bytes().startswith(b"\x89PNG")
    rows = metrics(fitted.folder)
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "val_loss", "val_auc", "gate_entropy", "gate_spread"]
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3]
    assert (fitted.scans, fitted.problems, fitted.cached_features) == ((12, 4), (), False)
    assert 0 < fitted.added_fraction < 1


def test_a_second_training_of_one_checkpoint_is_refused_while_the_first_runs(train: Train, tmp_path: Path) -> None:
    refusals: list[str] = []

    class Second(Recorder):
        def step(self, name: str) -> None:
            for force in (False, True):
                with pytest.raises(
                    InUseError, match=r"ckpt-training: in use by process \d+ .*molre-edge train"
                ) as caught:
                    train(force=force)
                refusals.append(str(caught.value))

    fitted = train(progress=Second())
    assert len(refusals) == 2 * 3  # reading of two splits, training
    assert metrics(fitted.folder) == metrics(train(tmp_path / "other" / "ckpt.pt").folder)
    assert train().trained.rows == fitted.trained.rows  # it has let go


def test_thresholds_are_those_of_the_validation_split(train: Train, manifest: Manifest, shared_cache: Path) -> None:
    for sensitivity in (None, 0.95):
        fitted = train(sensitivity=sensitivity, force=True)
        loaded = load_checkpoint(fitted.checkpoint)
        samples = VolumeSamples(prepare_volumes(manifest.of("val"), loaded.config.grid, shared_cache))
        answers = predict(loaded.model, samples, 8)
        expected, kept = set_thresholds(answers.probabilities, samples.labels, sensitivity)
        np.testing.assert_allclose(loaded.config.thresholds, expected, atol=1e-5)
        assert fitted.kept == tuple(manifest.findings[i] for i in kept)


def test_other_thresholds_need_no_new_epochs(train: Train) -> None:
    train()
    watcher = Recorder()
    first = metrics(training_folder(train(sensitivity=0.5, force=True, progress=watcher).checkpoint))
    assert len(first) == 3 and watcher.told.index("step: training") < watcher.told.index("epochs: 1 of 3")


def test_a_finished_training_returns_the_same_at_once_and_looks_at_no_scan(
    train: Train, manifest: Manifest, tmp_path: Path
) -> None:
    first = train()
    gone = replace(manifest, cases=tuple(replace(case, path=tmp_path / "gone") for case in manifest.cases))
    before, watcher = sha256_of(first.checkpoint), Recorder()
    again = train(manifest=gone, cache=tmp_path / "empty", progress=watcher)
    assert watcher.told == ["epochs: 1 of 3", "epochs: 2 of 3", "epochs: 3 of 3"]
    assert sha256_of(first.checkpoint) == before
    assert again.trained.rows == first.trained.rows
    for name in ("checkpoint", "folder", "scans", "problems", "kept", "added", "added_fraction", "cached_features"):
        assert getattr(again, name) == getattr(first, name)


def test_the_model_ends_as_the_checkpoint_has_it(
    configure: Callable[..., ModelConfig], manifest: Manifest, shared_cache: Path, tmp_path: Path
) -> None:
    for _ in ("trained", "found finished"):
        model = new_model(configure(), seed=0)
        fitted = fit(model, manifest, tmp_path / "ckpt.pt", SETTINGS, cache=shared_cache)
        loaded = load_checkpoint(fitted.checkpoint)
        assert model.config == loaded.config and not model.training
        weights = loaded.model.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "place", ["scans: 1 of 12", "step: training", "epochs: 1 of 3", "epochs: 2 of 3", "epochs: 3 of 3"]
)
def test_cut_at_any_place_and_run_again_it_ends_as_if_nothing_had_been(
    place: str, train: Train, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut.pt", progress=Recorder(place))
    assert not (tmp_path / "cut.pt").exists()
    again = train(tmp_path / "cut.pt")
    assert metrics(again.folder) == metrics(whole.folder)
    assert same_weights(again.checkpoint, whole.checkpoint)
    assert again.trained.best_epoch == whole.trained.best_epoch


def test_cut_between_checkpoint_and_record_it_writes_the_checkpoint_again(train: Train, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut.pt", progress=Recorder("epochs: 3 of 3"))
    shutil.copy(whole.checkpoint, tmp_path / "cut.pt")  # as if the checkpoint had still been written
    assert same_weights(train(tmp_path / "cut.pt").checkpoint, whole.checkpoint)


def test_another_training_does_not_overwrite_it_unasked(train: Train) -> None:
    first = train()
    before = sha256_of(first.checkpoint)
    with pytest.raises(RunError, match=r"finished training that differs in settings\.seed \(0 there, 1 now\)"):
        train(settings=replace(SETTINGS, seed=1))
    assert sha256_of(first.checkpoint) == before
    other = train(settings=replace(SETTINGS, seed=1), force=True)
    assert sha256_of(other.checkpoint) != before
    assert metrics(other.folder) != []


def test_what_a_kill_left_half_written_is_swept_away(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "ckpt-training"
    folder.mkdir()
    (folder / ".state.pt.abc.partial.pt").write_bytes(b"half")
    train()
    assert not list(folder.glob(".*"))


def test_a_bad_scan_is_told_at_once_and_the_rest_is_trained_on(
    train: Train, manifest: Manifest, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"text")
    case = Case("bad.nii.gz", bad, "train", np.array([1, 0], np.float32))
    watcher = Recorder()
    fitted = train(manifest=replace(manifest, cases=(case, *manifest.cases)), progress=watcher)
    assert [name for name, _ in fitted.problems] == ["bad.nii.gz"] and fitted.scans == (12, 4)
    assert watcher.told.index("warning: bad.nii.gz") < watcher.told.index("step: training")


def test_the_test_split_is_never_read(train: Train, manifest: Manifest, tmp_path: Path) -> None:
    hidden = tuple(replace(case, path=tmp_path / "gone") if case.split == "test" else case for case in manifest.cases)
    watcher = Recorder()
    train(manifest=replace(manifest, cases=hidden), progress=watcher)
    assert sum(text.startswith("scans: ") for text in watcher.told) == 16 and "warning" not in " ".join(watcher.told)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_scans_is_refused(split: str, train: Train, manifest: Manifest) -> None:
    left = tuple(case for case in manifest.cases if case.split != split)
    with pytest.raises(ConfigError, match=f"has no scans with split '{split}'"):
        train(manifest=replace(manifest, cases=left))


def test_findings_of_another_order_than_the_models_are_refused(train: Train, data: Path, manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="its findings differ from the model's"):
        train(manifest=read_manifest(data, manifest.findings[::-1]))


def test_features_of_a_frozen_backbone_are_computed_once(
    train: Train, configure: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    head = configure(adapter=AdapterConfig(modules=("head",), experts=2, rank=2))
    watcher = Recorder()
    assert train(config=head, progress=watcher).cached_features
    assert {"step: features (train)", "step: features (val)"} <= set(watcher.told)
    watcher = Recorder()
    assert not train(tmp_path / "other.pt", progress=watcher).cached_features
    assert not any(text.startswith("step: features") for text in watcher.told)


def test_trainings_of_several_names_share_one_cache(
    train: Train,
    configure: Callable[..., ModelConfig],
    manifest: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, once = tmp_path / "cache", replace(SETTINGS, epochs=1)
    first = train(tmp_path / "one.pt", cache=cache, settings=once)
    monkeypatch.setattr("molre_edge.training.volumes.read_scan", None)  # from here on no scan can be read
    for name, config in (("two.pt", configure()), ("lora.pt", configure(1))):
        other = train(tmp_path / name, config=config, cache=cache, settings=once)
        assert other.scans == first.scans == (12, 4) and not (other.folder / "cache").exists()
    one = read_manifest(manifest.path, manifest.findings[:1])
    head = configure(0, findings=one.findings)
    assert train(tmp_path / "head.pt", config=head, cache=cache, settings=once, manifest=one).scans == (12, 4)


def test_the_backbones_weights_can_be_left_out(train: Train, tmp_path: Path) -> None:
    for name in ("ckpt.pt", "ckpt.safetensors"):
        fitted = train(tmp_path / name.replace("ckpt", name[-2:]), with_backbone=False)
        file = read_checkpoint_file(fitted.checkpoint)
        assert file.backbone is None and file.backbone_sha256 is not None


def test_a_changed_scan_is_noticed_while_training_is_not_done(train: Train, data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    manifest = read_manifest(own, ("intraparenchymal_hemorrhage", "craniotomy_or_craniectomy"))
    with pytest.raises(KeyboardInterrupt):
        train(manifest=manifest, progress=Recorder("epochs: 1 of 3"))
    shutil.copy(manifest.of("train")[0].path, manifest.of("train")[1].path)
    with pytest.raises(RunError, match="the scans changed after this training started"):
        train(manifest=manifest)
    assert train(manifest=manifest, force=True).trained.epochs == 3


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_same_training_done_twice_leaves_the_same_bytes(train: Train, tmp_path: Path, suffix: str) -> None:
    first, second = (train(tmp_path / f"{name}{suffix}") for name in ("one", "a-longer-name"))
    assert first.checkpoint.read_bytes() == second.checkpoint.read_bytes()


def test_a_name_as_long_as_file_systems_allow_is_trained_into_and_gone_on_with(train: Train, tmp_path: Path) -> None:
    out = tmp_path / ("x" * 252 + ".pt")
    fitted = train(out)
    assert out.is_file() and fitted.folder.is_dir()
    assert train(out).trained.epochs == fitted.trained.epochs
    assert training_folder(out) != training_folder(tmp_path / ("x" * 251 + "y.pt"))


def test_a_pipe_in_place_of_the_checkpoint_is_refused_at_once(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "ckpt.pt"
    train(out)
    out.unlink()
    os.mkfifo(out)
    with pytest.raises(RunError, match="something else has written since"):
        train(out)

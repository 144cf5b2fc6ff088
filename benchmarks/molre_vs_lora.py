"""Frozen head, LoRA and MoLRE at equal added parameters, on synthetic head CT, in 2D and in 3D.

    python benchmarks/molre_vs_lora.py edge-comparison --json docs/results/molre-vs-lora.json

No public weights: each small backbone is pretrained on synthetic CT with findings that are not in the comparison, then
frozen, and the three arms are trained on other heads with other findings, which pull in different directions (small
hard edges, soft contrast, diffuse change). LoRA gets the rank that adds as many parameters as MoLRE's experts and
routers. The score is the mean AUC over the findings on test scans that no arm saw.

    python benchmarks/molre_vs_lora.py edge-comparison --pilot

is how the findings were chosen: the frozen arm alone, on heads of its own. What was run is kept in the folder, so that
an interrupted comparison goes on; more `--seeds` later add to those that are there. Other settings need another folder.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from held import ADAPTED_FROM, HeldSamples
from rich.console import Console
from rich.table import Table

from molre_edge.files import write_json
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig
from molre_edge.model.defaults import default_config
from molre_edge.model.placement import count_parameters
from molre_edge.specs import Grid
from molre_edge.training.data_manifest import Manifest, read_manifest
from molre_edge.training.dataset import make_dataset
from molre_edge.training.evaluation import Evaluation, evaluate_outputs
from molre_edge.training.fit import fit
from molre_edge.training.loop import TrainSettings, train_model
from molre_edge.training.samples import predict
from molre_edge.training.start import copy_backbone, match_rank, new_model
from molre_edge.training.state import TrainingState
from molre_edge.training.volumes import Volumes, prepare_volumes

PRETRAINING = (
    "acute_subdural_hematoma",
    "hydrocephalus",
    "ventricular_shunt_or_drain",
    "craniotomy_or_craniectomy",
    "intra_axial_mass",
    "paranasal_sinus_disease",
)
CANDIDATES = {
    "small, hard edge": (
        "calvarial_fracture",
        "displaced_skull_fracture",
        "burr_hole",
        "intracranial_calcification",
        "skull_bone_lesion",
        "pneumocephalus",
    ),
    "soft contrast": (
        "intraparenchymal_hemorrhage",
        "hemorrhagic_contusion",
        "acute_ischemic_infarct",
        "chronic_infarct",
        "lacunar_infarct",
    ),
    "diffuse": (
        "cerebral_edema",
        "subarachnoid_hemorrhage",
        "small_vessel_ischemic_disease",
        "hypoxic_ischemic_injury",
    ),
}
COMPARED = (
    "pneumocephalus",
    "calvarial_fracture",
    "displaced_skull_fracture",
    "acute_ischemic_infarct",
    "chronic_infarct",
    "intraparenchymal_hemorrhage",
    "subarachnoid_hemorrhage",
    "hypoxic_ischemic_injury",
    "cerebral_edema",
)
"""Of each kind the three nearest to an AUC of 0.70 in the pilot, within 0.55 to 0.85 (mean of both backbones)."""
BACKBONES = {
    "convnet2d-small": Grid(slices=10, rows=160, cols=160, field_mm=200.0, height_mm=150.0),
    "convnet3d-small": Grid(slices=14, rows=112, cols=112, field_mm=200.0, height_mm=150.0),
}
WIDTH = 8
SHAPE = (20, 160, 160)
ARMS = ("frozen", "lora", "molre")
EXPLAINING = ("molre-plain-input", "molre-scale-x6")
"""MoLRE whose routers read their input as it is; and with six times the scale, since of six gates that sum to one each
leaves an expert about a sixth of what a LoRA has."""
SPLITS = ("train", "val", "test")
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""97.5 % quantile of Student's distribution by number of seeds."""
DECIDING = ("pilot_scans", "pretraining_scans", "scans", "pretrain_epochs", "epochs", "lr", "rank")
"""Options that data, backbones and runs of a folder follow from."""


def keep_settings(options: argparse.Namespace) -> None:
    """Note what a new folder is made with; refuse to go on with one that was made otherwise.

    Raises:
        SystemExit: says what differs.
    """
    now = {name: getattr(options, name) for name in DECIDING}
    file = options.folder / "settings.json"
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        other = [f"{name} {before.get(name)}, now {now[name]}" for name in DECIDING if before.get(name) != now[name]]
        if other:
            raise SystemExit(f"{options.folder}: was made with {'; '.join(other)}. Name another folder")
    elif any(options.folder.glob("*-pretraining.json")):
        raise SystemExit(f"{options.folder}: does not say with which settings it was made. Name another folder")
    write_json(file, now)


def data(
    folder: Path, name: str, scans: int, seed: int, findings: tuple[str, ...], shares: tuple[float, float]
) -> Manifest:
    """A data set, made once."""
    place = folder / name
    if not (place / "manifest.csv").is_file():
        make_dataset(place, scans=scans, seed=seed, findings=findings, prevalence=0.25, shape=SHAPE, shares=shares)
    return read_manifest(place, findings)


def pretrain(backbone: str, manifest: Manifest, folder: Path, options: argparse.Namespace) -> tuple[Path, float]:
    """A frozen backbone to be, trained whole on other findings; once."""
    out, record = folder / f"{backbone}.pt", folder / f"{backbone}-pretraining.json"
    if not record.is_file():
        config = replace(
            default_config(backbone, adapter="none", grid=BACKBONES[backbone], findings=manifest.findings),
            backbone=BackboneConfig(id=backbone, options={"width": WIDTH}),
        )
        epochs = options.pretrain_epochs
        settings = TrainSettings(epochs=epochs, lr=0.003, train_backbone=True, patience=epochs)
        fitted = fit(new_model(config, seed=0), manifest, out, settings, cache=folder / "cache")
        write_json(record, {"val_auc": fitted.trained.best_score})
    return out, float(json.loads(record.read_text(encoding="utf-8"))["val_auc"])


def arm_config(base: ModelConfig, arm: str, rank: int) -> ModelConfig:
    """The configuration of an arm; the tiny backbones exceed the paper's budget, so it is lifted."""
    if arm == "frozen":
        return replace(base, adapter=AdapterConfig(experts=0))
    default = default_config(base.backbone.id)
    adapter = AdapterConfig(modules=default.adapter.modules, experts=6, rank=rank)
    molre = replace(base, adapter=adapter, router=default.router, budget=1.0)
    if arm == "molre-plain-input":
        return replace(molre, router=replace(molre.router, standardise=False))
    if arm == "molre-scale-x6":
        return replace(molre, adapter=replace(adapter, alpha=6 * adapter.alpha))
    return molre if arm == "molre" else replace(match_rank(molre), budget=1.0)


@functools.cache
def prepared(manifest: Manifest, split: str, grid: Grid, cache: Path) -> Volumes:
    """Scans on the grid; looked for once, not once a run."""
    return prepare_volumes(manifest.of(split), grid, cache)


def held(model: HeadCTClassifier, source: Path, manifest: Manifest, folder: Path, start: int) -> dict[str, HeldSamples]:
    """Every split, as block `start` reads it."""
    name = f"{source.stem}-{manifest.path.parent.name}-block{start}"
    volumes = {split: prepared(manifest, split, model.config.grid, folder / "cache") for split in SPLITS}
    samples = {s: HeldSamples(model, volumes[s], folder / "held" / f"{name}-{s}.npy", start) for s in SPLITS}
    with (
        torch.inference_mode()
    ):  # what was computed before the adapters and what comes after are the model's own answer
        whole = model(torch.from_numpy(volumes["val"].load([0, 1]).astype(np.float32))).logits
        parts = samples["val"].answer(model, [0, 1]).logits
    assert torch.allclose(whole, parts, atol=0.02), (whole, parts)
    return samples


def train_arm(
    source: Path, arm: str, seed: int, manifest: Manifest, folder: Path, options: argparse.Namespace
) -> tuple[HeadCTClassifier, Evaluation, dict[str, Any]]:
    """Train and test one arm."""
    base = load_checkpoint(source)
    config = replace(base.config, findings=manifest.findings, thresholds=())
    model = new_model(arm_config(config, arm, options.rank), seed=seed)
    copy_backbone(base.model, model)
    count = count_parameters(model)
    samples = held(model, source, manifest, folder, len(model.backbone.blocks) if arm == "frozen" else ADAPTED_FROM)
    settings = TrainSettings(epochs=options.epochs, lr=options.lr, seed=seed, patience=options.epochs)
    start, cpu = time.perf_counter(), time.process_time()
    trained = train_model(model, samples["train"], samples["val"], settings, TrainingState({}))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    test = samples["test"]
    thresholds = [0.5] * len(manifest.findings)
    result = evaluate_outputs(predict(model, test, 8), test.labels, manifest.findings, thresholds, resamples=200)
    routing = result.routing
    record = {
        "backbone": source.stem,
        "arm": arm,
        "seed": seed,
        "rank": model.config.adapter.rank if arm != "frozen" else 0,
        "added": count.added,
        "added_fraction": count.fraction,
        "trained_head_and_pooling": sum(p.numel() for part in (model.pooling, model.head) for p in part.parameters()),
        "best_epoch": trained.best_epoch,
        "val_auc": trained.best_score,
        "test_auc": result.macro_auc,
        "test_by_finding": {row.finding: None if row.auc is None else row.auc.auc for row in result.findings},
        "routing": None
        if routing is None
        else {
            "spread": routing.spread,
            "entropy": routing.entropy.tolist(),
            "usage": routing.usage.tolist(),
            "largest_by_finding": {
                name: float(np.abs(routing.by_finding[i]).max()) for i, name in enumerate(manifest.findings)
            },
        },
        "epochs": [{k: row[k] for k in ("train_loss", "val_loss", "val_auc")} for row in trained.rows],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
    }
    return model, result, record


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval (Student) over the seeds."""
    mean = float(values.mean())
    half = STUDENT[len(values)] * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row an arm, with the paired difference to LoRA, over all findings and by finding."""
    rows = []
    for backbone in BACKBONES:
        of = {arm: [r for r in runs if r["backbone"] == backbone and r["arm"] == arm] for arm in ARMS}
        scores = {arm: np.array([r["test_auc"] for r in of[arm]]) for arm in ARMS}
        for arm in ARMS:
            findings = {f: np.array([r["test_by_finding"][f] for r in of[arm]]) for f in COMPARED}
            lora = {f: np.array([r["test_by_finding"][f] for r in of["lora"]]) for f in COMPARED}
            rows.append(
                {
                    "backbone": backbone,
                    "arm": arm,
                    "added": of[arm][0]["added"],
                    "added_fraction": of[arm][0]["added_fraction"],
                    "auc": interval(scores[arm]),
                    "minus_lora": None if arm == "lora" else interval(scores[arm] - scores["lora"]),
                    "by_finding": {f: interval(values) for f, values in findings.items()},
                    "by_finding_minus_lora": None
                    if arm == "lora"
                    else {f: interval(values - lora[f]) for f, values in findings.items()},
                }
            )
    return rows


def pilot(folder: Path, sources: dict[str, Path], options: argparse.Namespace, console: Console) -> None:
    """AUC of the frozen arm for every candidate, on heads that nothing else uses."""
    names = tuple(name for kind in CANDIDATES.values() for name in kind)
    manifest = data(folder, "pilot", options.pilot_scans, 3, names, (0.1, 0.45))
    found = {}
    for backbone, source in sources.items():
        _, result, _ = train_arm(source, "frozen", 0, manifest, folder, options)
        found[backbone] = {row.finding: None if row.auc is None else row.auc.auc for row in result.findings}
    for kind, members in CANDIDATES.items():
        for name in members:
            console.print(f"{kind}: {name}", *(f"{found[backbone][name]:.3f}" for backbone in sources))
    scans = {split: len(manifest.of(split)) for split in SPLITS}
    write_json(folder / "pilot.json", {"scans": scans, "arm": "frozen", "seed": 0, "auc": found})


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data, backbones and runs; is made")
    parser.add_argument("--pilot", action="store_true", help="only the frozen arm, on all candidates")
    parser.add_argument("--explain", type=int, default=0, help="seeds of MoLRE in two other forms, afterwards")
    parser.add_argument("--pilot-scans", type=int, default=200)
    parser.add_argument("--pretraining-scans", type=int, default=240)
    parser.add_argument("--scans", type=int, default=520, help="of the comparison: an eighth to validate, 40 % to test")
    parser.add_argument("--seeds", type=int, default=5, choices=STUDENT, help="2 to 10: an interval needs two")
    parser.add_argument("--pretrain-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--rank", type=int, default=2, help="of each of the six experts")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=110)
    options.folder.mkdir(parents=True, exist_ok=True)
    keep_settings(options)
    start = time.perf_counter()
    first = data(options.folder, "pretraining", options.pretraining_scans, 1, PRETRAINING, (0.2, 0.0))
    sources, pretraining = {}, {}
    for backbone in BACKBONES:
        sources[backbone], pretraining[backbone] = pretrain(backbone, first, options.folder, options)
        console.print(f"{backbone}: pretrained, validation AUC {pretraining[backbone]:.3f}")
    if options.pilot:
        pilot(options.folder, sources, options, console)
        return
    second = data(options.folder, "compared", options.scans, 2, COMPARED, (0.125, 0.4))

    def run_all(arms: tuple[str, ...], seeds: int) -> list[dict[str, Any]]:
        runs = []
        for seed, backbone, arm in itertools.product(range(seeds), sources, arms):
            record = options.folder / f"{backbone}-{arm}-{seed}.json"
            if not record.is_file():
                write_json(record, train_arm(sources[backbone], arm, seed, second, options.folder, options)[2])
            runs.append(json.loads(record.read_text(encoding="utf-8")))
            console.print(f"{backbone} {arm} {seed}: {runs[-1]['test_auc']:.3f} ({runs[-1]['cpu_seconds']} s)")
        return runs

    runs = run_all(ARMS, options.seeds)
    explaining = run_all(EXPLAINING, options.explain)
    rows = summarise(runs)
    table = Table(
        title=f"Mean AUC of {len(COMPARED)} findings on {len(second.of('test'))} scans, {options.seeds} seeds"
    )
    for heading in ("backbone", "arm", "added", "AUC (95 % over seeds)", "minus LoRA, paired"):
        table.add_column(heading)
    for row in rows:
        mean, low, high = row["auc"]
        gain = row["minus_lora"]
        against = "–" if gain is None else f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})"
        added = f"{row['added']:,} ({row['added_fraction']:.2%})"
        table.add_row(row["backbone"], row["arm"], added, f"{mean:.3f} ({low:.3f} to {high:.3f})", against)
    console.print(table)
    found = options.folder / "pilot.json"
    figures = {
        "findings": list(COMPARED),
        "pretraining_findings": list(PRETRAINING),
        "pretraining_val_auc": pretraining,
        "pilot": json.loads(found.read_text(encoding="utf-8")) if found.is_file() else None,
        "scans": {split: len(second.of(split)) for split in SPLITS},
        "settings": {k: v for k, v in vars(options).items() if k not in {"folder", "json", "pilot", "explain"}},
        "torch": torch.__version__,
        "rows": rows,
        "runs": runs,
        "explaining_runs": explaining,
    }
    console.print(f"{(time.perf_counter() - start) / 60:.0f} minutes in this start")
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()

"""Frozen head, LoRA and MoLRE at equal added parameters, on synthetic head CT, in 2D and in 3D.

    python benchmarks/molre_vs_lora.py edge-comparison --json docs/results/molre-vs-lora.json

No public weights: each small backbone is pretrained on synthetic CT with findings that are not in the comparison, then
frozen, and the three arms are trained on other heads with other findings, chosen to pull in different directions (small
hard edges, soft contrast, diffuse change). LoRA gets the rank that adds as many parameters as MoLRE's experts and
routers. The score is the mean AUC over the findings on test scans that no arm saw. What was run is kept in the folder,
so that an interrupted comparison goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from molre_edge.files import write_json
from molre_edge.model.checkpoint import load_checkpoint
from molre_edge.model.config import AdapterConfig, ModelConfig
from molre_edge.model.defaults import default_config
from molre_edge.model.placement import count_parameters
from molre_edge.training.dataset import make_dataset
from molre_edge.training.evaluation import evaluate_outputs
from molre_edge.training.fit import fit
from molre_edge.training.loop import TrainSettings
from molre_edge.training.manifest import Manifest, read_manifest
from molre_edge.training.samples import VolumeSamples, predict
from molre_edge.training.start import copy_backbone, match_rank, new_model
from molre_edge.training.volumes import prepare_volumes

PRETRAINING = (
    "acute_subdural_hematoma",
    "hydrocephalus",
    "ventricular_shunt_or_drain",
    "craniotomy_or_craniectomy",
    "intra_axial_mass",
    "paranasal_sinus_disease",
)
COMPARED = (
    "calvarial_fracture",  # small, hard edge
    "burr_hole",  # small, hard edge
    "intracranial_calcification",  # small, bright
    "intraparenchymal_hemorrhage",  # bright, soft edge
    "acute_ischemic_infarct",  # faint, soft edge
    "cerebral_atrophy",  # diffuse
    "small_vessel_ischemic_disease",  # diffuse, faint
)
BACKBONES = ("convnet2d-small", "convnet3d-small")
ARMS = ("frozen", "lora", "molre")


def data(folder: Path, name: str, scans: int, seed: int, findings: tuple[str, ...]) -> Manifest:
    """A data set, made once."""
    place = folder / name
    if not (place / "manifest.csv").is_file():
        make_dataset(place, scans=scans, seed=seed, findings=findings, prevalence=0.3, processes=2)
    return read_manifest(place, findings)


def arm_config(base: ModelConfig, arm: str, rank: int) -> ModelConfig:
    """The configuration of an arm; the tiny backbones exceed the paper's budget, so it is lifted."""
    if arm == "frozen":
        return replace(base, adapter=AdapterConfig(experts=0))
    places = default_config(base.backbone.id).adapter.modules
    molre = replace(base, adapter=AdapterConfig(modules=places, experts=6, rank=rank), budget=1.0)
    return molre if arm == "molre" else replace(match_rank(molre), budget=1.0)


def run_arm(
    source: Path, arm: str, seed: int, manifest: Manifest, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Train and test one arm."""
    base = load_checkpoint(source)
    config = replace(base.config, findings=manifest.findings, thresholds=())
    model = new_model(arm_config(config, arm, options.rank), seed=seed)
    copy_backbone(base.model, model)
    count = count_parameters(model)
    out = folder / f"{source.stem}-{arm}-{seed}.pt"
    start = time.perf_counter()
    settings = TrainSettings(epochs=options.epochs, lr=options.lr, seed=seed, patience=options.epochs)
    fitted = fit(model, manifest, out, settings, cache=folder / "cache")
    seconds = time.perf_counter() - start
    volumes = prepare_volumes(manifest.of("test"), config.grid, folder / "cache")
    samples = VolumeSamples(volumes)
    answers = predict(model, samples, 8)
    result = evaluate_outputs(answers, samples.labels, manifest.findings, model.config.thresholds, resamples=200)
    return {
        "backbone": source.stem,
        "arm": arm,
        "seed": seed,
        "rank": model.config.adapter.rank if arm != "frozen" else 0,
        "added": count.added,
        "added_fraction": count.fraction,
        "trained_head_and_pooling": sum(p.numel() for part in (model.pooling, model.head) for p in part.parameters()),
        "best_epoch": fitted.trained.best_epoch,
        "val_auc": fitted.trained.best_score,
        "test_auc": result.macro_auc,
        "test_by_finding": {row.finding: None if row.auc is None else row.auc.auc for row in result.findings},
        "gate_spread": None if result.routing is None else result.routing.spread,
        "gate_entropy": None if result.routing is None else result.routing.entropy.tolist(),
        "seconds": round(seconds, 1),
    }


def pretrain(backbone: str, manifest: Manifest, folder: Path, options: argparse.Namespace) -> tuple[Path, float]:
    """A frozen backbone to be, trained whole on other findings; once."""
    out = folder / f"{backbone}.pt"
    record = folder / f"{backbone}-pretraining.json"
    if not record.is_file():
        model = new_model(default_config(backbone, adapter="none", findings=manifest.findings), seed=0)
        settings = TrainSettings(epochs=options.pretrain_epochs, lr=0.003, train_backbone=True, patience=100)
        fitted = fit(model, manifest, out, settings, cache=folder / "cache")
        write_json(record, {"val_auc": fitted.trained.best_score})
    return out, float(json.loads(record.read_text(encoding="utf-8"))["val_auc"])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval (Student) over the seeds."""
    student = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
    mean = float(values.mean())
    half = student[len(values)] * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row an arm, with the paired difference to LoRA."""
    rows = []
    for backbone in BACKBONES:
        scores = {
            arm: np.array([run["test_auc"] for run in runs if run["backbone"] == backbone and run["arm"] == arm])
            for arm in ARMS
        }
        for arm in ARMS:
            row = next(run for run in runs if run["backbone"] == backbone and run["arm"] == arm)
            rows.append(
                {
                    "backbone": backbone,
                    "arm": arm,
                    "added": row["added"],
                    "added_fraction": row["added_fraction"],
                    "auc": interval(scores[arm]),
                    "minus_lora": None if arm == "lora" else interval(scores[arm] - scores["lora"]),
                }
            )
    return rows


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="data, backbones and runs; is made")
    parser.add_argument("--scans", type=int, default=480, help="of each data set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretrain-epochs", type=int, default=14)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--rank", type=int, default=4, help="of each of the six experts")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    console = Console(width=110)
    options.folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    first = data(options.folder, "pretraining", options.scans, 1, PRETRAINING)
    second = data(options.folder, "compared", options.scans, 2, COMPARED)
    runs, pretraining = [], {}
    for backbone in BACKBONES:
        source, pretraining[backbone] = pretrain(backbone, first, options.folder, options)
        console.print(f"{backbone}: pretrained, validation AUC {pretraining[backbone]:.3f}")
        for seed in range(options.seeds):
            for arm in ARMS:
                record = options.folder / f"{backbone}-{arm}-{seed}.json"
                if not record.is_file():
                    write_json(record, run_arm(source, arm, seed, second, options.folder, options))
                runs.append(json.loads(record.read_text(encoding="utf-8")))
                console.print(f"{backbone} {arm} {seed}: {runs[-1]['test_auc']:.3f} ({runs[-1]['seconds']} s)")
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
    figures = {
        "findings": list(COMPARED),
        "pretraining_findings": list(PRETRAINING),
        "pretraining_val_auc": pretraining,
        "scans": {split: len(second.of(split)) for split in ("train", "val", "test")},
        "settings": {k: v for k, v in vars(options).items() if k not in {"folder", "json"}},
        "torch": torch.__version__,
        "rows": rows,
        "runs": runs,
    }
    console.print(f"{(time.perf_counter() - start) / 60:.0f} minutes in this start")
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()

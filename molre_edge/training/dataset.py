"""A synthetic data set to train on: head CTs with findings, and their manifest."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molre_edge.errors import ConfigError
from molre_edge.files import replace_folder
from molre_edge.findings import default_findings
from molre_edge.training.data_manifest import MANIFEST_NAME

__all__ = ["make_dataset"]


@dataclass(frozen=True)
class _Plan:
    name: str
    split: str
    seed: int
    findings: tuple[str, ...]


def make_dataset(
    folder: Path,
    *,
    scans: int,
    seed: int = 0,
    shape: tuple[int, int, int] = (16, 128, 128),
    shares: tuple[float, float] = (0.2, 0.2),
    findings: Sequence[str] | None = None,
    prevalence: float = 0.3,
    processes: int = 1,
    on_scan: Callable[[], None] = lambda: None,
) -> None:
    """Write NIfTI scans of synthetic heads and ``manifest.csv``; the folder appears whole or not at all.

    Args:
        folder: must not exist, or must be empty.
        scans: number of scans.
        seed: heads are numbered from ``seed * 1_000_000``, so that two seeds share none.
        shape: (slices, rows, cols) of a scan.
        shares: shares of the validation and test splits.
        findings: draw each of these by itself, and give the manifest these columns only; None draws as
            :func:`molre_edge.synthetic.random_findings` does, and gives it all 75.
        prevalence: share of scans with each of `findings`, the same in each split; a split of two scans or more has
            some with and some without it.
        processes: number of processes that make scans.
        on_scan: called after each scan.

    Raises:
        ConfigError: the folder is not empty, or synthetic heads can't have one of the findings.
    """
    from molre_edge.synthetic.catalogue import check_names

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: already exists and is not empty; name a new folder")
    if findings is not None:
        check_names(findings)  # their order is that of the draws
        findings = tuple(dict.fromkeys(findings))
    plans = _draw(scans, seed, shares, findings, prevalence)
    names = [each.name for each in default_findings() if findings is None or each.name in findings]
    rows: list[list[str]] = []
    with replace_folder(folder) as partial_folder:
        make = partial(_make, folder=partial_folder, shape=shape)
        # spawn: a forked process may inherit a lock of a numerical library
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            answers = pool.map(make, plans, chunksize=8) if processes > 1 else map(make, plans)
            for plan, labels in zip(plans, answers, strict=True):
                rows.append([plan.name, plan.split, *("1" if name in labels else "0" for name in names)])
                on_scan()
        with (partial_folder / MANIFEST_NAME).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["scan", "split", *names])
            writer.writerows(rows)


def _draw(
    scans: int, seed: int, shares: tuple[float, float], findings: Sequence[str] | None, prevalence: float
) -> list[_Plan]:
    from molre_edge.synthetic import random_findings

    rng = np.random.default_rng(seed)
    val, test = (round(share * scans) for share in shares)
    splits = rng.permutation(["val"] * val + ["test"] * test + ["train"] * (scans - val - test))
    if findings is None:
        chosen = [random_findings(rng) for _ in splits]
    else:
        present = [_draw_finding(rng, splits, prevalence) for _ in findings]
        chosen = [
            tuple(name for name, there in zip(findings, present, strict=True) if there[i]) for i in range(len(splits))
        ]
    return [
        _Plan(f"{split}/head-{i + 1:05d}.nii.gz", str(split), seed * 1_000_000 + i, chosen[i])
        for i, split in enumerate(splits)
    ]


def _draw_finding(rng: np.random.Generator, splits: npt.NDArray[np.str_], prevalence: float) -> npt.NDArray[np.bool_]:
    """Which scans have a finding: the same share in each split, and both kinds of scans where a split has two."""
    present = np.zeros(len(splits), bool)
    for split in ("train", "val", "test"):
        (scans,) = np.nonzero(splits == split)
        count = round(prevalence * len(scans))
        if len(scans) > 1:
            count = min(max(count, 1), len(scans) - 1)
        present[rng.permutation(scans)[:count]] = True
    return present


def _make(plan: _Plan, *, folder: Path, shape: tuple[int, int, int]) -> frozenset[str]:
    from molre_edge.synthetic import make_head, write_nifti

    head = make_head(plan.seed, plan.findings, shape=shape)
    write_nifti(head, folder / plan.name)
    return head.labels

"""The commands by name: where each one is, and what the program's help says of it without importing it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMMANDS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One command.

    Attributes:
        summary: its line in the program's help; the first paragraph of its own help is the same, as a test checks.
        examples: the end of its own help, each as it is typed.
    """

    summary: str
    examples: tuple[str, ...]


COMMANDS: dict[str, Entry] = {
    "demo": Entry(
        "Train a small model on synthetic heads, export it, run it on both engines, and end in a report to open.",
        ("molre-edge demo", "molre-edge demo my-demo --force"),
    ),
    "synthesize": Entry(
        "Make a synthetic head CT data set for 'train': 60 % training, 20 % validation, 20 % test scans.",
        ("molre-edge synthesize my-data --scans 240",),
    ),
    "train": Entry(
        "Train on a folder of labelled scans. The backbone stays frozen.",
        (
            "molre-edge train my-data --out frozen.pt --backbone dinov3-vitb16 --backbone-weights FOLDER "
            "--adapter none",
            "molre-edge train my-data --out molre.pt --init frozen.pt --adapter molre",
        ),
    ),
    "evaluate": Entry(
        "Evaluate a checkpoint on labelled scans that it was not trained on.",
        ("molre-edge evaluate molre.pt my-data --out my-evaluation",),
    ),
    "import-peft": Entry(
        "Add a LoRA saved by Hugging Face PEFT to a checkpoint without adapters (K = 0). The result has K = 1.",
        ("molre-edge import-peft LORA_FOLDER --base frozen.pt --out lora.pt",),
    ),
    "reference": Entry(
        "Write what your own model needs to answer scans, so that engines are judged by its answers.",
        (
            "molre-edge reference scans --checkpoint ckpt.pt --out for-my-model",
            "molre-edge reference scans --checkpoint ckpt.pt --model mine.py:answer --out for-my-model",
            "molre-edge reference for-my-model --explain --checkpoint ckpt.pt",
        ),
    ),
    "export": Entry(
        "Turn a checkpoint into a bundle: ONNX graphs, golden answers, and the proof that routing is dynamic.",
        (
            "molre-edge export ckpt.pt",
            "molre-edge export ckpt.pt --out my-bundle --golden scans",
            'molre-edge export ckpt.pt --reference-answers for-my-model --reference-note "the model of the study"',
        ),
    ),
    "calibrate": Entry(
        "Find the largest set of 8-bit layers within the parity limits; write their graph and a report to the bundle.",
        ("molre-edge calibrate scans --bundle my-bundle", "molre-edge infer scans --engine int8"),
    ),
    "build": Entry(
        "Build a TensorRT engine from a bundle's graph, and show the precision of its layers as built.",
        ("molre-edge build --engine fp16 --target rtx",),
    ),
    "adapter": Entry(
        "List, add, remove or pack adapters: what was trained, as small files that share one bundle and its engines.",
        (
            "molre-edge adapter list",
            "molre-edge adapter pack molre.pt --bundle my-bundle --name hospital-b",
            "molre-edge adapter add hospital-b.adapter",
            "molre-edge adapter rollback hospital-b",
        ),
    ),
    "infer": Entry(
        "Run the bundle on scans: findings per scan, times by phase, and parity with the reference.",
        (
            "molre-edge infer scans --engine fp16",
            "molre-edge infer scans --engine onnxruntime:fp32 --reference golden --out my-run",
            "molre-edge infer scans --reference mine.py:answer",
            "molre-edge infer scans --resume --out my-run",
        ),
    ),
    "report": Entry(
        "Write the parity report of a run again, put several runs of one model side by side, or merge shards.",
        (
            "molre-edge report edge-runs/20261102T101504Z --limits mine.toml --out by-mine",
            "molre-edge report edge-runs/fp32 edge-runs/fp16 --out fp32-or-fp16",
        ),
    ),
    "verify": Entry(
        "Check a bundle on this machine: the hashes of all its files, then the golden answers through one engine.",
        ("molre-edge verify --engine fp16", "molre-edge verify --bundle my-bundle --expect-digest SHA256 --json"),
    ),
    "node": Entry(
        "Run a DICOM node: studies arrive, are answered after a quiet time, and their reports are sent.",
        ("molre-edge node --config node.toml --check", "molre-edge node --config node.toml"),
    ),
    "export-triton": Entry(
        "Write a bundle as a model repository for Triton Inference Server, with a script that replays its golden "
        "answers.",
        (
            "molre-edge export-triton triton-models",
            "molre-edge export-triton triton-models --max-batch 16 --max-delay-ms 10",
        ),
    ),
    "bench": Entry(
        "Time engines in turns on the same volumes: latency, scans per second, memory, and power if it is reported.",
        ("molre-edge bench --batch 1 --batch 4", "molre-edge bench --engine fp16 --plain ckpt.pt --out my-figures"),
    ),
    "sign": Entry(
        "Sign a bundle's release or a file in minisign's format, so that machines which trust the key can tell it.",
        (
            "molre-edge sign --new-key release.key --no-password",
            "molre-edge sign my-bundle --key release.key --name head-ct --release-version 1",
        ),
    ),
    "inspect": Entry(
        "Describe a checkpoint, adapter, graph, engine, bundle, run, scan or folder of scans, without running it.",
        ("molre-edge inspect edge-bundle", "molre-edge inspect scans --paths"),
    ),
    "doctor": Entry(
        "Show what this machine has, which engines can run on it, and what to install for the others.",
        ("molre-edge doctor --json",),
    ),
}
"""In the order of their use. ``import-peft`` is the function ``import_peft`` of ``molre_edge.cli.import_peft``."""

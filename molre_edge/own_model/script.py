"""The script that ``molre-edge reference`` leaves for the user to fill in."""

from __future__ import annotations

__all__ = ["SCRIPT", "SCRIPT_FILE"]

SCRIPT_FILE = "answer_scans.py"

SCRIPT = '''\
"""Asks your own model about the scans of this folder, and writes answers.npz for 'molre-edge export'.

Fill in 1, 2 and 3, then run this file with the Python that runs your model. It needs NumPy and nothing of molre-edge.
"""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent

# 1. The findings of YOUR model, in the order of its outputs. Take them from your training code, not from the
#    checkpoint: otherwise a wrong order in the checkpoint can't be found.
FINDINGS = []

# 2. What answer() uses of a scan: "path", "hu" or "grid". The earlier it starts, the more is compared; the verdict
#    says where it started.
GIVEN = ""


# 3. Your model.
def answer(scan):
    """Logits of one scan, in the order of FINDINGS.

    Args:
        scan: "path" is the series' folder or file, "files" are its files.
            load(scan["hu"]) has "hu", float32 [slices, rows, cols] in Hounsfield units: slices from inferior to
            superior, rows from anterior to posterior, cols from the patient's right to left. "positions_mm" and
            "thickness_mm" are those of the slices, "pixel_mm" is (row, col).
            load(scan["grid"])["volume"] is float16 [slices, rows, cols] in HU on the grid of the checkpoint.
    """
    raise NotImplementedError("call your model here")


# 4. Only if answers differ: values of your chain, so that 'molre-edge reference --explain' can tell where they part.
#    Call it in answer(), with any of these arrays of one scan, as many as you have, for a few scans:
#      files       names of the files in the order of your slices
#      hu, grid    [slices, rows, cols], HU: the volume as you read it, and as it goes into your windows
#      windowed, normalised    [slices, channels, rows, cols], also if your backbone is 3D
#      gates       [slices or 1, routers, experts]
#      features    [slices, d], the backbone's output of each slice (3D: [d])
#      embedding   [d], the vector before the head
def save_steps(scan, **arrays):
    (FOLDER / "steps").mkdir(exist_ok=True)
    np.savez(FOLDER / "steps" / f"{scan['scan']}.npz", **{name: np.asarray(a) for name, a in arrays.items()})


def load(name):
    return np.load(FOLDER / name, allow_pickle=False)


def main():
    if GIVEN not in ("path", "hu", "grid") or not FINDINGS:
        raise SystemExit("Fill in 1 and 2 of this file first.")
    scans = json.loads((FOLDER / "inputs.json").read_text(encoding="utf-8"))["scans"]
    logits = np.array([np.asarray(answer(scan)) for scan in scans])
    names = np.array([scan["scan"] for scan in scans])
    # "logits" may be "probabilities" instead; "thresholds" [findings], "embedding" [scans, d] and "gates" [scans,
    # slices, routers, experts] may be added
    np.savez(FOLDER / "answers.npz", given=np.array(GIVEN), scans=names, findings=np.array(FINDINGS), logits=logits)


if __name__ == "__main__":
    main()
'''

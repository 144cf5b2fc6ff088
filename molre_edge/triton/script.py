"""The client script in a model repository."""

from __future__ import annotations

__all__ = ["SCRIPT", "SCRIPT_FILE"]

SCRIPT_FILE = "replay.py"

SCRIPT = '''\
"""Asks a running Triton server the golden volumes of the bundle, and judges its answers by the bundle's limits.

    python replay.py                                    # the Python form, on this machine
    python replay.py --url HOST:8000 --adapter NAME     # by one of the bundle's adapters
    python replay.py --model molre-onnx --bundle FOLDER # another form: it has no bundle within

It needs molre-edge, and nothing else. Exit code 0: within the limits; 3: outside; 1: no answer.
"""

import argparse
import json
import sys
from pathlib import Path

from molre_edge import MolreEdgeError
from molre_edge.triton.replay import replay_golden

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--url", default="127.0.0.1:8000", help="HOST:PORT of Triton's HTTP service")
parser.add_argument("--model", help="name of the model; default: the first of molre-edge.json")
parser.add_argument("--adapter", help="one of the bundle's adapters; default: the bundle's default")
parser.add_argument("--bundle", type=Path, help="folder of the bundle; default: the one within the Python form")
words = parser.parse_args()
try:
    result = replay_golden(
        Path(__file__).resolve().parent, words.url, model=words.model, adapter=words.adapter, bundle=words.bundle
    )
except MolreEdgeError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
print(json.dumps(result.to_dict(), indent=2))
sys.exit(0 if result.passed else 3)
'''

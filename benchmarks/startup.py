"""How long `molre-edge --help` takes beside an empty Typer program with as many commands.

    python benchmarks/startup.py [--rounds 20]

Both are whole processes, in turns; a time is the wall time from start to exit, Python's own start included.
The bound is 1.2 times the empty program.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from molre_edge.cli.commands import COMMANDS

EMPTY = f"""
import typer
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
for name, text in {[(name, entry.summary) for name, entry in COMMANDS.items()]!r}:
    app.command(name, help=text)(lambda: None)
app()
"""
OURS = "from molre_edge.cli import main; main()"
BOUND = 1.2


def seconds(code: str, *words: str) -> float:
    """Wall seconds of one process."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> int:
    """Measure, print, and say whether the bound is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    pairs = [(seconds(OURS, "--help"), seconds(EMPTY, "--help")) for _ in range(rounds + 1)][1:]
    ours, empty = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"molre-edge --help {ours:.3f} s, an empty Typer program with {len(COMMANDS)} commands {empty:.3f} s (medians)"
    )
    print(f"ratio {ratio:.2f} (median of {rounds} pairs), bound {BOUND}")
    return int(ratio > BOUND)


if __name__ == "__main__":
    sys.exit(main())

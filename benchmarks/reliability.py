"""What is left after kill -9, whether 1,000 scans are all accounted for, and whether a node loses a study.

    python benchmarks/reliability.py calls WORK
    python benchmarks/reliability.py kill WORK --checkpoint CKPT --bundle BUNDLE --scans SCANS --limits TOML --kills 20
    python benchmarks/reliability.py scans WORK --bundle BUNDLE --count 1000 --bad 0.05
    python benchmarks/reliability.py node WORK --bundle BUNDLE --limits TOML --studies 100 --kills 20 --disk-mb 300

`calls` halts each command of COMMANDS before every call by which it changes a file, and keeps what a kill would leave
there; with --kill-every it kills it there too, and compares. Without --checkpoint and the like it makes a very small
model and some scans. `kill` kills at random moments: half of the times at a
moment anywhere between a command's start and its usual end, half after its first file has appeared. After each, nothing
under a final name may be half written; the same command, called again, must end well, with the results of a run that
nobody cut, without leftovers, and without asking a scan again that was answered. A new command is one more entry in
reliability_commands.py. `node` has two senders, which are killed too; they send studies in random order, some images
again and some late, while the node is killed, the PACS goes away, and, with --disk-mb (as root), the disk is full. It
needs the extra `dicom`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from reliability_calls import kill_at_every_call
from reliability_commands import COMMANDS, Assets
from reliability_kills import kill_often
from reliability_node import node_trial
from reliability_scans import many


def main() -> None:
    """Run, and print JSON; exit code 1 if there were problems."""
    options = _options()
    work = options.work.resolve()
    result: dict[str, Any] = {}
    if options.what == "scans":
        result = many(work, options.bundle.resolve(), options.count, options.bad, options.seed)
        problems = result["problems"]
    elif options.what == "node":
        result = node_trial(
            work,
            options.bundle.resolve(),
            options.limits and options.limits.resolve(),
            studies=options.studies,
            kills=options.kills,
            seed=options.seed,
            shape=(8, 64, 64),
            disk_mb=options.disk_mb,
        )
        problems = result["problems"]
    else:
        paths = (options.checkpoint, options.bundle, options.scans, options.limits, options.data)
        if all(paths[:3]):
            assets = Assets(*(path and path.resolve() for path in paths))
        elif any(paths):
            sys.exit("--checkpoint, --bundle and --scans go together; --limits and --data go with them")
        else:
            from reliability_assets import make_assets

            assets = make_assets(work / "assets")
        for name in options.command or [name for name in COMMANDS if _has_assets(name, assets)]:
            if options.what == "kill":
                result[name] = kill_often(name, assets, work, options.kills, options.seed)
            else:
                words = ("--readers", 0) if name == "infer" else ()  # readers change no file
                result[name] = kill_at_every_call(name, assets, work, words=words, kill_every=options.kill_every)
            print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
        problems = [each for found in result.values() for each in found["problems"]]
    json.dump(result, sys.stdout, indent=2)
    print()
    sys.exit(1 if problems else 0)


def _has_assets(name: str, assets: Assets) -> bool:
    if name.startswith("adapter"):
        return assets.adapters is not None
    return name != "train" or assets.data is not None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = parser.add_subparsers(dest="what", required=True)
    calls, kill, scans, node = (parts.add_parser(name) for name in ("calls", "kill", "scans", "node"))
    for part in (calls, kill, scans, node):
        part.add_argument("work", type=Path)
        part.add_argument("--bundle", type=Path, required=part is not calls)
    for part in (calls, kill):
        for name in ("checkpoint", "scans"):
            part.add_argument(f"--{name}", type=Path, required=part is kill)
        part.add_argument("--limits", type=Path)
        part.add_argument("--data", type=Path, help="labelled scans; without them 'train' is left out")
        part.add_argument("--command", nargs="+", choices=COMMANDS)
    calls.add_argument("--kill-every", type=int, default=0, help="kill before every so many calls as well")
    kill.add_argument("--kills", type=int, default=20)
    kill.add_argument("--seed", type=int, default=0)
    scans.add_argument("--count", type=int, default=1000)
    scans.add_argument("--bad", type=float, default=0.05)
    node.add_argument("--limits", type=Path)
    node.add_argument("--studies", type=int, default=100)
    node.add_argument("--disk-mb", type=int, default=0, help="a disk of this size, which is full for a while; as root")
    node.add_argument("--kills", type=int, default=20)
    for part in (scans, node):
        part.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()

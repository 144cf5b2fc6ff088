"""``molre-edge adapter``: what was trained, as files beside a bundle's frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import molre_edge
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    JsonOption,
    LimitsOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    TrustOption,
    UsageError,
    WeightsOption,
    bundle_folder,
    command,
)
from molre_edge.cli.suggest import did_you_mean, nearest_path
from molre_edge.specs import DEFAULT_BUNDLE, DISCLAIMER

if TYPE_CHECKING:
    from molre_edge.export.pack import PackedAdapter
    from molre_edge.progress import Progress
    from molre_edge.verification.adapter_verbs import AdapterList, AddedAdapter

__all__ = ["adapter"]


class Action(str, Enum):
    """What to do."""

    LIST = "list"
    ADD = "add"
    REMOVE = "remove"
    DEFAULT = "default"
    ROLLBACK = "rollback"
    PACK = "pack"


_NEEDS = {Action.ADD: "FILE", Action.REMOVE: "NAME", Action.DEFAULT: "NAME", Action.PACK: "CKPT"}
"""What an action can't do without."""


@command
def adapter(
    action: Annotated[
        Action,
        typer.Argument(
            help="list: show the bundle's adapters. add FILE: check one and add it. remove NAME. default NAME: use it "
            "where none is named. rollback [NAME]: go back to the version before. pack CKPT: make one of a checkpoint."
        ),
    ],
    what: Annotated[
        str | None, typer.Argument(metavar="[FILE|NAME|CKPT]", help="What the action is about, as shown there.")
    ] = None,
    bundle: BundleOption = DEFAULT_BUNDLE,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="pack: the file to write. Default: ./NAME.adapter.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="pack: the adapter's name. Default: that of the checkpoint's file.")
    ] = None,
    half_experts: Annotated[
        bool,
        typer.Option("--half-experts", help="pack: experts as float16: smaller, and not exact in fp32."),
    ] = False,
    backbone_weights: WeightsOption = None,
    force: Annotated[bool, typer.Option("--force", help="pack: replace an existing file.")] = False,
    limits: LimitsOption = None,
    threads: ThreadsOption = None,
    expect_digest: DigestOption = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List, add, remove or pack adapters: what was trained, as small files that share one bundle and its engines.

    The bundle is one that 'export' made without '--adapters constants'. 'add' first lets every engine that is ready
    here answer the adapter's golden volumes. Exit codes: 0 done; 1 an error that you can fix, nothing was changed; 2
    usage; 3 an engine does not answer as PyTorch did, so nothing was added.
    """
    speaker = Speaker(as_json, quiet)
    _check_words(action, what, {"--out": out, "--name": name, "--half-experts": half_experts, "--force": force})
    folder = bundle_folder(bundle)
    if action is Action.PACK:
        with speaker.progress() as progress:
            packed = molre_edge.pack_adapter(
                _file(what),
                out,
                bundle=folder,
                name=name,
                half_experts=half_experts,
                backbone_weights=backbone_weights,
                force=force,
                expect_digest=expect_digest,
                trust=trust,
                progress=progress,
            )
        _show_packed(packed, speaker)
    elif action is Action.ADD:
        with speaker.progress() as progress:
            added = molre_edge.add_adapter(
                _file(what),
                bundle=folder,
                limits=limits,
                threads=threads,
                expect_digest=expect_digest,
                trust=trust,
                progress=progress,
            )
        _show_added(added, speaker)
    else:
        with speaker.progress() as progress:
            listed = _changed(action, what, folder, expect_digest, trust, progress)
        _show_list(listed, speaker)


def _check_words(action: Action, what: str | None, of_pack: Mapping[str, object]) -> None:
    needed = _NEEDS.get(action)
    if needed and what is None:
        raise UsageError(f"molre-edge adapter {action.value}: {needed} is missing")
    if action is Action.LIST and what is not None:
        raise UsageError(f"molre-edge adapter list: unexpected {what}; name the bundle with --bundle")
    given = [option for option, value in of_pack.items() if value]
    if given and action is not Action.PACK:
        raise UsageError(f"molre-edge adapter {action.value}: {given[0]} belongs to 'adapter pack'")


def _file(what: str | None) -> Path:
    path = Path(what or "")
    if not path.exists():
        raise UsageError(f"{path}: no such file.{did_you_mean(nearest_path(path))}")
    return path


def _changed(
    action: Action,
    what: str | None,
    folder: Path,
    expect_digest: str | None,
    trust: list[Path] | None,
    progress: Progress,
) -> AdapterList:
    how: dict[str, Any] = {"expect_digest": expect_digest, "trust": trust, "progress": progress}
    if action is Action.REMOVE:
        return molre_edge.remove_adapter(what or "", bundle=folder, **how)
    if action is Action.DEFAULT:
        return molre_edge.default_adapter(what or "", bundle=folder, **how)
    if action is Action.ROLLBACK:
        return molre_edge.rollback_adapter(what, bundle=folder, **how)
    return molre_edge.list_adapters(folder, **how)


def _show_packed(packed: PackedAdapter, speaker: Speaker) -> None:
    speaker.say(f"Adapter {packed.name}: {packed.path}")
    speaker.say(f"SHA-256: {packed.digest}")
    size = f"{packed.bytes / 1e6:.2f} MB, {packed.graph_share:.2%} of the bundle's smallest graph, golden answers aside"
    speaker.say(f"{size}; {len(packed.findings)} findings")
    speaker.say(f"Add it on a box: molre-edge adapter add {packed.path.name}")
    speaker.say(DISCLAIMER, style="dim")
    speaker.result(packed.to_dict())


def _show_added(added: AddedAdapter, speaker: Speaker) -> None:
    for check in added.checks:
        mark = "✓" if check.passed else "–" if check.passed is None else "✗"
        speaker.say(f"  {mark} {check.engine}: {check.summary}", "green" if check.passed else "bold red")
    before = "" if added.previous is None else f", in place of {added.previous[:12]} ('adapter rollback' goes back)"
    speaker.say(f"Adapter {added.name} is added: SHA-256 {added.digest}{before}")
    use = "It is the default" if added.default else f"Use it with --adapter {added.name}"
    times = f"{added.seconds['in_all']:.1f} s in all, {added.seconds['golden_answers']:.1f} s for golden answers"
    speaker.say(f"{use} ({times})")
    speaker.say(DISCLAIMER, style="dim")
    speaker.result(added.to_dict())


def _show_list(listed: AdapterList, speaker: Speaker) -> None:
    table = Table(title=f"Adapters of {listed.bundle}", title_justify="left")
    for heading in ("name", "SHA-256", "added", "findings", "K", "r", "checked on", "before it"):
        table.add_column(heading, overflow="fold")
    for each in listed.adapters:
        shape = ("–" if value is None else str(value) for value in (each.experts, each.rank))
        words = (f"{each.name} (default)" if each.default else each.name, each.digest[:12], each.added)
        before = "–" if each.previous is None else each.previous[:12]
        table.add_row(*words, str(len(each.findings)), *shape, ", ".join(each.checked) or "–", before)
    speaker.show(table)
    for each in listed.adapters:
        if each.problem is not None:
            speaker.warn(f"adapter {each.name} can't be used: {each.problem}")
    speaker.result(listed.to_dict())

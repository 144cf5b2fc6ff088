"""From compared values and tried changes to the first step that differs, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from molre_edge.own_model.agreement import Agreement
from molre_edge.own_model.inputs_folder import HuVolume
from molre_edge.own_model.parting.chain import Chain, State
from molre_edge.own_model.parting.changes_answers import answer_changes
from molre_edge.own_model.parting.estimate import describe_hu
from molre_edge.own_model.parting.explanation import NAMES, Explanation, Row, rows_of
from molre_edge.own_model.parting.search import Cause, Search
from molre_edge.own_model.parting.steps import Step
from molre_edge.own_model.parting.walk import Segment
from molre_edge.parity.logits import logit_differences
from molre_edge.parity.outputs import sigmoid
from molre_edge.progress import Progress

__all__ = ["conclude"]

Files = Mapping[str, tuple[Sequence[str], Sequence[str]]]

_ALIKE = 0.02
"""Findings that agree this much better than those that differ share all that lies before the head."""
_WHOSE = {"features": Step.BACKBONE, "embedding": Step.POOLING, "gates": Step.GATES}
"""Where a value differs and nothing more is known."""


def conclude(
    chain: Chain,
    agreement: Agreement,
    segments: Sequence[Segment],
    files: Files,
    *,
    folder: Path,
    seconds: float,
    progress: Progress,
) -> Explanation:
    """The first step that differs.

    Args:
        chain: of the checkpoint.
        agreement: of the answers.
        segments: walked.
        files: scan -> the user's file names and ours, in the order of the slices, where the user saved them.
        folder: where the explanation will be.
        seconds: after so long no further change is tried.
        progress: receives events.
    """
    nothing = Explanation(folder, agreement.verdict.headline, agreement.passed, None, "", (), rows_of(segments), (), 0)
    read = _files_apart(files)
    parting = next((each for each in segments if each.differs and _matters(chain, each, agreement)), None)
    quiet = [each for each in segments if each.differs and (read is not None or each is not parting)]
    notes = tuple(
        f"{NAMES[each.start]} to {NAMES[each.end]} differs too" for each in quiet if parting is not None
    ) + tuple(f"{NAMES[each.end]}: differs, without effect on the answers" for each in quiet if parting is None)
    if read is not None:
        step, text, fix = read
        before = "The answers agree, though a step differs. " if agreement.passed else ""
        after = "" if agreement.passed else " It may not be the only difference: fix it and run --explain again."
        found = replace(nothing, step=step, text=f"{before}Your model {text}. To fix it: {fix}.{after}")
    elif parting is not None:
        found = _explained(chain, agreement, segments, parting, nothing, seconds, progress)
    elif not agreement.verdict.passed:
        found = replace(nothing, text=_elsewhere(agreement, segments))
    elif agreement.thresholds:
        name, own, ours = agreement.thresholds[0]
        count = len(agreement.thresholds)
        differ = f"{count} thresholds differ" if count > 1 else "1 threshold differs"
        text = f"Answers agree, and {differ}: of {name} yours is {own:g}, the checkpoint's {ours:g}."
        found = replace(nothing, step=Step.THRESHOLDS, text=f'{text} To fix it: in the checkpoint, "thresholds".')
    elif quiet:
        found = _explained(chain, agreement, segments, quiet[0], nothing, seconds, progress)
        found = replace(found, text=f"The answers agree, though a step differs. {found.text}")
    else:
        found = replace(nothing, text="No step differs: the checkpoint answers as your model did.")
    return replace(found, notes=(*found.notes, *notes))


def _explained(
    chain: Chain,
    agreement: Agreement,
    segments: Sequence[Segment],
    parting: Segment,
    nothing: Explanation,
    seconds: float,
    progress: Progress,
) -> Explanation:
    """What is known of the segment in which the chain parts."""
    if parting.end == "hu":
        return _of_hu(parting, nothing)
    if parting.end == "logits":
        if causes := _of_answers(chain, agreement, parting):
            return _of_causes(causes, nothing)
        if (heads := _of_some_findings(agreement, nothing)) is not None:
            return heads
    search = Search(chain, chain.model.config, parting, seconds=seconds, progress=progress)
    causes = search.causes()
    ended = (f"Trying changes ended after {seconds:g} s; not all were tried",) if search.ended else ()
    known = replace(nothing, tried=search.tried, notes=ended)
    if causes:
        return _of_causes(causes, known)
    step = parting.steps[0] if len(parting.steps) == 1 else _WHOSE.get(parting.end)
    if parting.start == "embedding":  # what lies behind the head was tried
        step = Step.HEAD
    if parting.end == "gates":
        behind = segments[segments.index(parting) + 1]
        given = behind.states[behind.worst].gates is not None
        if given and behind.differs:
            text = (
                "The gates differ, and with your gates put in, what follows differs too: weights of the backbone or of "
                "the experts are others than the checkpoint's."
            )
            return replace(known, step=Step.BACKBONE, text=text)
        if given:
            text = (
                "The gates differ, and with your gates put in, everything behind agrees: the routers' weights, or what "
                "they read, are others than the checkpoint's."
            )
            return replace(known, step=Step.GATES, text=text)
    return replace(known, step=step, text=_unexplained(step, parting, known.rows[segments.index(parting)]))


def _elsewhere(agreement: Agreement, segments: Sequence[Segment]) -> str:
    """Words for answers that differ in scans whose steps were not compared."""
    missed = "; ".join(check.text for check in agreement.verdict.failed) or agreement.verdict.summary
    names = ", ".join(segments[-1].differences)
    return (
        f"No step differs in the scans that were compared ({names}), but the answers of all scans do: {missed}. Save "
        f"the steps of the scans that differ, or remove the folder steps, so that those that differ most are compared."
    )


def _unexplained(step: Step | None, parting: Segment, row: Row) -> str:
    """Words for a parting that no known change explains."""
    size = f"by up to {row.size:.4g} in {row.scan}" if np.isfinite(row.size) else f"in shape in {row.scan}"
    between = f"{NAMES[parting.start]} and {NAMES[parting.end]}"
    if step is not None:
        weights = {
            Step.BACKBONE: ": weights of the backbone or of the experts may be others than the checkpoint's",
            Step.POOLING: ": weights of the pooling may be others than the checkpoint's",
            Step.HEAD: ": weights of the head may be others than the checkpoint's",
        }.get(step, "")
        return f"The first step that differs is {step}, {size}{weights}. No known change explains it."
    names = ", ".join(str(each) for each in parting.steps)
    return (
        f"The chain parts between {between} ({size}): one of {names}. No known change explains it. Save more values in "
        f"steps/ (save_steps() of answer_scans.py), and it will be narrowed."
    )


def _of_causes(causes: Sequence[Cause], known: Explanation) -> Explanation:
    steps = {each.step for each in causes}
    if len(causes) == 1:
        text = f"Your model {causes[0].text}. To fix it: {causes[0].fix}."
    else:
        listed = "; or: ".join(f"your model {each.text} ({each.fix})" for each in causes[:5])
        text = f"On these scans {len(causes)} changes explain it alike: {listed}."
    return replace(known, step=min(steps, key=list(Step).index), text=text, causes=tuple(causes))


def _of_answers(chain: Chain, agreement: Agreement, parting: Segment) -> list[Cause]:
    """Changes behind the embedding, compared on all scans of the segment."""
    rows = {name: place for place, name in enumerate(agreement.scans)}
    if parting.states[parting.worst].point in ("hu", "grid"):  # from the beginning: all scans
        scans, logits = list(agreement.scans), agreement.rebuild.logits.astype(np.float64)
    else:
        scans = list(parting.states)
        logits = np.stack([chain.run(parting.states[scan], "logits") for scan in scans]).astype(np.float64)
    given = agreement.ranges.rows([rows[scan] for scan in scans])
    head = chain.model.head
    bias = getattr(head, "base", head).bias  # an adapted head wraps its layer
    offset = np.zeros(logits.shape[1]) if bias is None else bias.detach().numpy().astype(np.float64)
    before = logit_differences(given.nearest(logits), logits).max()
    causes = []
    findings = tuple(chain.model.config.findings)
    for change in answer_changes(given, logits, offset, findings, agreement.order):
        found = change.apply(logits)
        own = given.nearest(found)
        left = float(logit_differences(own, found).max())
        limits = agreement.limits
        dp = float(np.abs(sigmoid(own) - sigmoid(found)).max())
        within = all(
            limit is None or size <= limit for size, limit in ((left, limits.max_abs_dlogit), (dp, limits.max_abs_dp))
        )
        if within and left < before:
            causes.append(Cause(change.step, change.text, change.fix, left, len(scans), change))
    return causes


def _of_some_findings(agreement: Agreement, known: Explanation) -> Explanation | None:
    """If some findings agree and others do not, they part in the head: everything before it is shared."""
    own = agreement.ranges.nearest(agreement.rebuild.logits)
    apart = logit_differences(own, agreement.rebuild.logits).max(axis=0)
    differing = list(agreement.differing)
    alike = np.setdiff1d(np.arange(len(apart)), differing)
    if not differing or not len(alike) or apart[alike].max() > _ALIKE * apart[differing].min():
        return None
    findings = [each.finding for each in agreement.numbers.per_finding]
    names = ", ".join(findings[i] for i in differing[:5])
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    text = (
        f"Only {names}{more} differ; {len(alike)} other findings agree to {apart[alike].max():.1g}, so all "
        f"before the head agrees. Weights of the head, of these findings alone, are others than the checkpoint's."
    )
    return replace(known, step=Step.HEAD, text=text)


def _of_hu(parting: Segment, nothing: Explanation) -> Explanation:
    """What the user's HU volume is beside ours."""
    scan = parting.worst
    state, own = parting.states[scan].value, parting.targets[scan].value
    assert isinstance(state, HuVolume) and own is not None
    described = describe_hu(state.hu, own)
    if described is None:
        size = parting.differences[scan].size
        text = f"The HU volumes differ by up to {size:.4g} HU in {scan}, and no known change explains it."
        return replace(nothing, step=Step.HU, text=text)
    step, text, fix = described
    return replace(nothing, step=step, text=f"Your model {text}. To fix it: {fix}.")


def _files_apart(files: Files) -> tuple[Step, str, str] | None:
    """Other files, or another order of them, by their names."""
    for scan, (own, ours) in files.items():
        yours, read = [PurePath(name).name for name in own], [PurePath(name).name for name in ours]
        if sorted(yours) != sorted(read):
            missing, more = [n for n in read if n not in yours], [n for n in yours if n not in read]
            text = f"reads {len(yours)} files of {scan} where molre-edge reads {len(read)}"
            names = [f"not {', '.join(missing[:3])}"] if missing else []
            names += [f"but {', '.join(more[:3])}"] if more else []
            fix = "read the files that inputs.json names, each once"
            return Step.FILES, text + (f" ({'; '.join(names)})" if names else ""), fix
        if yours != read:
            order = "from superior to inferior" if yours == read[::-1] else "in another order"
            fix = "sort slices by their position along the normal, from inferior to superior, not by name or number"
            return Step.SLICES, f"stacks the slices of {scan} {order}", fix
    return None


def _matters(chain: Chain, segment: Segment, agreement: Agreement) -> bool:
    """Whether the user's value at the end of a segment gives other logits than the rebuild's."""
    if segment.end == "logits":
        return True
    allowed = agreement.limits.max_abs_dlogit or 0.0
    for scan, state in segment.states.items():
        value = segment.targets[scan].value
        if value is None or not np.isfinite(segment.differences[scan].size):
            return True
        if segment.end == "gates":
            if not chain.gates_can_be_given:
                return True
            after = replace(state, gates=value)
        elif segment.end == "hu":
            assert isinstance(state.value, HuVolume)
            after = replace(state, value=replace(state.value, hu=value))
        else:
            after = State(segment.end, value, state.gates)
        apart = logit_differences(chain.run(state, "logits")[None], chain.run(after, "logits")[None])
        if apart.max() > allowed:
            return True
    return False

"""Which findings can be asked for, what they imply, and plausible draws of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np

from molre_edge.errors import ConfigError
from molre_edge.findings import default_findings
from molre_edge.scans.synthetic import bleeds, infarcts, injuries, masses, structure, surgery
from molre_edge.scans.synthetic.plan import LESIONS

__all__ = ["SUPPORTED_FINDINGS", "check_names", "random_findings", "with_parents"]

_MAKERS = (bleeds, infarcts, injuries, masses, structure, surgery)  # imported for their registrations

SUPPORTED_FINDINGS: tuple[str, ...] = tuple(f.name for f in default_findings() if f.name in LESIONS)
"""Names of the findings that a synthetic head can show, in the order of the 75."""


def check_names(findings: Iterable[str]) -> tuple[str, ...]:
    """The names in the order of the 75 findings, once each, or an error that names a near one."""
    wanted = [findings] if isinstance(findings, str) else list(findings)
    for name in wanted:
        if name not in LESIONS:
            near = difflib.get_close_matches(str(name), SUPPORTED_FINDINGS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = ", ".join(SUPPORTED_FINDINGS)
            raise ConfigError(f"findings: {name!r} can't be shown in a synthetic head.{hint} Supported: {known}")
    return tuple(name for name in SUPPORTED_FINDINGS if name in wanted)


def with_parents(names: Iterable[str]) -> frozenset[str]:
    """The names and all their parents."""
    above = {finding.name: finding.parent for finding in default_findings()}
    found = set()
    for name in names:
        step: str | None = name
        while step is not None:
            found.add(step)
            step = above[step]
    return frozenset(found)


def random_findings(rng: np.random.Generator, *, normal: float = 0.35) -> tuple[str, ...]:
    """A plausible draw of findings.

    Args:
        rng: the source of chance.
        normal: the share of draws without any finding.
    """
    if rng.random() < normal:
        return ()
    count = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    drawn = rng.choice(len(SUPPORTED_FINDINGS), size=min(count, len(SUPPORTED_FINDINGS)), replace=False)
    return tuple(SUPPORTED_FINDINGS[i] for i in sorted(int(d) for d in drawn))

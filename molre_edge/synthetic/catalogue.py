"""Which findings can be asked for, what they imply, and plausible draws of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np

from molre_edge.errors import ConfigError
from molre_edge.findings import default_findings
from molre_edge.synthetic import bleeds, infarcts, injuries, masses, structure, surgery
from molre_edge.synthetic.plan import LESIONS

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


_BACKGROUND = {
    "cerebral_atrophy": 0.12,
    "small_vessel_ischemic_disease": 0.14,
    "vascular_calcification": 0.12,
    "paranasal_sinus_disease": 0.10,
    "mastoid_effusion": 0.04,
    "intracranial_calcification": 0.04,
    "lacunar_infarct": 0.06,
    "chronic_infarct": 0.04,
    "encephalomalacia_gliosis": 0.04,
    "ventriculomegaly": 0.04,
    "empty_sella": 0.02,
    "mega_cisterna_magna": 0.02,
    "burr_hole": 0.02,
}
"""What is found beside the reason for a scan, and how often. The figures are a guess at a busy clinic, not a survey."""

_TRAUMA = ("calvarial_fracture", "displaced_skull_fracture", "skull_base_fracture", "scalp_hematoma", "pneumocephalus")
_INJURIES = (
    "acute_subdural_hematoma",
    "epidural_hemorrhage",
    "traumatic_subarachnoid_hemorrhage",
    "hemorrhagic_contusion",
    "non_hemorrhagic_contusion",
    "diffuse_axonal_injury",
    "subdural_hygroma",
    "foreign_body",
    "orbital_or_soft_tissue_emphysema",
)
_GENERIC = ("intracranial_hemorrhage_any", "subdural_hemorrhage", "subarachnoid_hemorrhage", "extra_axial_mass")


def random_findings(rng: np.random.Generator, *, normal: float = 0.3) -> tuple[str, ...]:
    """A plausible draw of findings to ask for.

    Either nothing, or a reason for the scan (an injury with what comes with it, or one disease or device) and what
    age adds. Every supported finding occurs among the labels of many draws.

    Args:
        rng: the source of chance.
        normal: the share of draws without any finding.

    Returns:
        Names in the order of the 75 findings, often none.
    """
    if not 0 <= normal <= 1:
        raise ConfigError(f"normal: expected a share from 0 to 1, got {normal!r}")
    if rng.random() < normal:
        return ()
    drawn = {name for name, share in _BACKGROUND.items() if rng.random() < share}
    kind = rng.random()
    if kind < 0.3:
        drawn.update(str(name) for name in rng.choice(_TRAUMA, size=int(rng.integers(0, 3)), replace=False))
        drawn.update(str(name) for name in rng.choice(_INJURIES, size=int(rng.integers(1, 3)), replace=False))
    elif kind < 0.93:
        others = [n for n in SUPPORTED_FINDINGS if n not in {*_TRAUMA, *_INJURIES, *_GENERIC, *_BACKGROUND}]
        drawn.add(str(rng.choice(others)))
    elif not drawn:
        drawn.add(str(rng.choice(list(_BACKGROUND))))
    return tuple(name for name in SUPPORTED_FINDINGS if name in drawn)

"""Where this user's record of verified engines lies: the one place that reads the environment for it."""

from __future__ import annotations

import os
from pathlib import Path

from molre_edge.verification.passed import RECORD

__all__ = ["record_path"]


def record_path() -> Path | None:
    """``MOLRE_EDGE_STATE``, a service's ``STATE_DIRECTORY``, or the user's state folder; None if there is none."""
    for name in ("MOLRE_EDGE_STATE", "STATE_DIRECTORY"):
        if folder := os.environ.get(name, "").partition(os.pathsep)[0]:  # systemd lists several with colons
            return Path(folder) / RECORD
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "molre-edge" / RECORD
    try:
        return Path.home() / ".local" / "state" / "molre-edge" / RECORD
    except RuntimeError:  # a user without a home
        return None

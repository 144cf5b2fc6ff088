"""What of a header's text may be shown."""

from __future__ import annotations

import re

__all__ = ["plain_text"]


def plain_text(text: str, most: int = 64) -> str:
    """A header's word as a report may show it: short, and without anything but letters, digits and a few signs."""
    return re.sub(r"[^A-Za-z0-9 .,+/_()-]", "", text)[:most].strip()

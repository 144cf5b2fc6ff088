r"""Writes THIRD_PARTY_LICENSES.md: what an edge box installs beside molre-edge, and under which licence.

From the metadata of the very versions in constraints/py310.txt, unpacked for that Python into a folder of their own:

    pip install --target WORK --no-deps --only-binary :all: --python-version 3.10 --requirement constraints/py310.txt \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64
    python .ci/third_party.py WORK > THIRD_PARTY_LICENSES.md

tests/repository/test_third_party.py holds the list against the constraints.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

HEAD = """\
# Third-party licences

What an edge box installs beside molre-edge: the base requirements and theirs, on Python 3.10, in the versions of
`constraints/py310.txt`. None of it is part of molre-edge's wheel; each package brings its own licence text, and those
of the C and C++ libraries in its wheel (ITK and GDCM in simpleitk, OpenJPEG in pylibjpeg-openjpeg, and so on).
Elsewhere versions and a few names differ (`pip-licenses` lists what is installed). Made by `.ci/third_party.py` from
the packages' metadata.

| package | version | licence | source |
| --- | --- | --- | --- |
"""
FOOT = """
**Not included and not installed by the base:** CUDA, cuDNN, TensorRT, TensorRT-RTX, their Python bindings and JetPack
are NVIDIA's, under NVIDIA's own licences. They are used where somebody has installed them. The extras `export`,
`train`, `rtx`, `ort-rtx`, `tensorrt`, `openvino`, `cuda`, `power`, `sign`, `dicom`, `weights`, `docs` and `dev` bring
more packages, under their own licences; the package of `ort-rtx` is under Apache-2.0 and holds TensorRT-RTX and the
CUDA runtime, which are under NVIDIA's. molre-edge itself is under Apache-2.0 (`LICENSE`). Weights of backbones are
their publishers' and never part of it; those of the extra `weights` are under Apache-2.0 (EfficientNet-Lite0) and MIT
(Astra, derived from Merlin).
"""
_CLASSIFIER = "License :: OSI Approved :: "


def licence_of(package: Distribution) -> str:
    """The SPDX expression, else the classifiers, else the first line of the free text."""
    if given := package.metadata.get("License-Expression"):
        return str(given)
    classifiers = package.metadata.get_all("Classifier") or []
    if found := [line.removeprefix(_CLASSIFIER) for line in classifiers if line.startswith(_CLASSIFIER)]:
        return ", ".join(found)
    return str(package.metadata.get("License") or "").strip().split("\n")[0][:80]


def source_of(package: Distribution) -> str:
    """Where it comes from."""
    urls = {
        label.strip().lower(): url.strip()
        for label, _, url in (line.partition(",") for line in package.metadata.get_all("Project-URL") or [])
    }
    for label in ("source", "source code", "repository", "code", "github", "homepage", "home"):
        if label in urls:
            return urls[label]
    return str(package.metadata.get("Home-page") or next(iter(urls.values()), ""))


def main() -> int:
    """Print the page; 1 when a licence is not told."""
    rows, unknown = [], []
    for package in distributions(path=[sys.argv[1]]):
        licence = licence_of(package).replace("|", "/")
        name = re.sub(r"\s", "", package.metadata["Name"])
        rows.append((name, package.version, licence, source_of(package)))
        unknown += [] if licence else [name]
    body = "".join(f"| {' | '.join(row)} |\n" for row in sorted(rows, key=lambda row: row[0].lower()))
    sys.stdout.write(HEAD + body + FOOT)
    if unknown:
        print(f"no licence is told by: {', '.join(unknown)}", file=sys.stderr)
    return int(bool(unknown))


if __name__ == "__main__":
    sys.exit(main())

"""One way to an attribute of a frame, wherever the file keeps it: functional groups, sequences or the top level.

Enhanced multi-frame CT keeps most attributes in functional groups, for a frame or shared by all; a legacy converted
file keeps what has no group of its own in the "unassigned converted attributes". A classic file has only a top level.
Sources: DICOM PS3.3 C.7.6.16.2 (functional groups), C.8.15.3 (those of CT), C.7.6.16.2.25 and C.7.6.16.2.26
(unassigned converted attributes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from molre_edge.errors import ScanError

if TYPE_CHECKING:
    from pydicom import FileDataset

    from molre_edge.scans.dicom_plain import PlainHeader

__all__ = ["Attributes", "frame_attributes", "values_of"]

_MACROS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
    "CTXRayDetailsSequence",
    "MultienergyCTProcessingSequence",
    "FrameAnatomySequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)
_USAGE = "ContrastBolusUsageSequence"
_ENERGY = "MultienergyCTProcessingSequence"
_WITHIN = {_ENERGY: "MultienergyCTCharacteristicsSequence"}
"""A sequence with attributes of a frame that lies within another one (C.8.15.3.12); classic images have it as well."""


def values_of(value: Any) -> list[Any]:
    """The values of an element, none, one or many, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]


class _Place:
    """A data set whose values are looked up once: each frame of a file asks for the same ones."""

    def __init__(self, dataset: Any) -> None:
        from pydicom.datadict import keyword_for_tag

        self._dataset = dataset
        self._present = {keyword_for_tag(tag) for tag in dataset.keys()}  # noqa: SIM118 - itself, it yields values
        self._known: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """As a data set's own."""
        if name not in self._present:
            return None
        if name not in self._known:
            self._known[name] = self._dataset.get(name)
        return self._known[name]


class Attributes:
    """The attributes that hold for one frame of a file."""

    def __init__(self, places: Sequence[Any], dataset: FileDataset | PlainHeader, groups: Sequence[Any] = ()) -> None:
        """Args: `places` are data sets, the most specific first; `groups` are the frame's and the shared groups."""
        self._places = places
        self._groups = groups
        self.top = dataset

    @property
    def has_own_type(self) -> bool:
        """Whether the frame has a type of its own, beside that of the file, which may be mixed."""
        return any("CTImageFrameTypeSequence" in group for group in self._groups[:1])

    def get(self, name: str) -> Any:
        """The most specific value that is not empty, else None."""
        for place in self._places:
            value = place.get(name)
            if value is not None and value != "":
                return value
        return None

    def text(self, name: str) -> str:
        """The value as text; several values are joined by a blank."""
        value = self.get(name)
        if value is None:
            return ""
        if type(value) is str:
            return value.strip()
        return " ".join(str(part) for part in values_of(value)).strip()

    def number(self, name: str) -> float | None:
        """The value as a finite number, or None when it is absent or is not one: for what only describes."""
        stored = self.get(name)
        try:
            value = float(stored if type(stored) in (int, float) else values_of(stored)[0])
        except (TypeError, ValueError, IndexError):
            return None
        return value if abs(value) < 1e9 else None

    def words(self, name: str) -> tuple[str, ...]:
        """The values as upper case words."""
        return tuple(word for value in values_of(self.get(name)) if (word := str(value).strip().upper()))

    def items(self, name: str) -> list[Any]:
        """The items of a sequence."""
        return list(self.get(name) or ())

    def contrast_usage(self) -> list[Any] | None:
        """The items of Contrast/Bolus Usage of this frame; None when the file does not state any."""
        for group in self._groups:
            if _USAGE in group:
                return list(group.get(_USAGE) or ())
        return None


def frame_attributes(dataset: FileDataset | PlainHeader, count: int) -> Iterator[Attributes]:
    """The attributes of each frame, in order.

    Args:
        dataset: the file.
        count: how many frames it announces.

    Raises:
        ScanError: ``no_geometry`` for several frames without functional groups, ``corrupt_header`` when there are not
            as many groups as frames.
    """
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or ())[:1]
    each = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    if not shared and not each:
        if count > 1:
            raise ScanError(
                "no_geometry", f"{count} frames without functional groups: their positions are unknown; export slices"
            )
        energy = list(dataset.get(_ENERGY) or ())[:1]
        yield Attributes([dataset, *(place for item in energy for place in _nested(_ENERGY, item))], dataset)
        return
    if len(each) != count:
        raise ScanError("corrupt_header", f"{count} frames, but positions for {len(each)}: export the series again")
    common = [*_places(shared), _Place(dataset)]
    for group in each:
        yield Attributes([*_places([group]), *common], dataset, [group, *shared])


def _places(groups: Sequence[Any]) -> list[_Place]:
    found = []
    for group in groups:
        place = _Place(group)
        for name in _MACROS:
            for item in list(place.get(name) or ())[:1]:
                found += _nested(name, item)
    return found


def _nested(name: str, item: Any) -> list[_Place]:
    """An item of a sequence, and the first of the sequence within it that matters."""
    place = _Place(item)
    inner = list(place.get(_WITHIN[name]) or ())[:1] if name in _WITHIN else []
    return [place, *map(_Place, inner)]

"""The words by which an image type is known."""

from __future__ import annotations

import pytest

from molre_edge.errors import ScanError
from molre_edge.scans import dicom_kind, traits


def test_every_word_fits_into_a_code_string() -> None:
    # DICOM PS3.5 6.2: a CS value has at most 16 characters, of upper case letters, digits, blank and underscore
    words = {*dicom_kind._DERIVED_MAPS, *dicom_kind._LOCALIZERS, *dicom_kind._NOT_HEAD, *traits.MULTI_ENERGY}
    assert {word for word in words if len(word) > 16 or not word.replace("_", "A").isalnum()} == set()


def test_every_multi_energy_word_of_the_standard_is_known() -> None:
    # DICOM PS3.3 C.8.2.1.1.1, value 4
    maps = {"MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY"}
    assert maps <= dicom_kind._DERIVED_MAPS
    assert {"VMI", "MAT_REMOVED", "MAT_MODIFIED"} <= set(traits.MULTI_ENERGY)


@pytest.mark.parametrize("first", ["ORIGINAL", "DERIVED"])
@pytest.mark.parametrize("word", ["MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "ELECTRON_DENSITY"])
def test_material_maps_are_refused_whatever_stands_first(first: str, word: str) -> None:
    with pytest.raises(ScanError) as caught:
        dicom_kind.check_frame_kind((first, "PRIMARY", "AXIAL", word))
    assert caught.value.code == "derived_map"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("CT_SOM5 MIP", "derived_map"),
        ("DE_VNC", "derived_map"),
        ("CTA_MIP", "derived_map"),
        ("REF_SURVIEW", "localizer"),
        ("CT_SOM5 SPI", ""),
        ("HELICAL_MPR", ""),
    ],
)
def test_words_and_parts_of_a_value_count(value: str, code: str) -> None:
    try:
        dicom_kind.check_frame_kind(("DERIVED", "SECONDARY", "AXIAL", value))
    except ScanError as error:
        assert error.code == code
    else:
        assert code == ""

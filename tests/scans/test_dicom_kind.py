"""The words by which an image type is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.encaps import encapsulate

from molre_edge.errors import ScanError
from molre_edge.scans import dicom_kind, traits
from molre_edge.scans.series import examine


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
        ("AIDR_3D_STD", ""),
        ("CT_SOM5 3D", "derived_map"),
    ],
)
def test_words_and_parts_of_a_value_count(value: str, code: str) -> None:
    try:
        dicom_kind.check_frame_kind(("DERIVED", "SECONDARY", "AXIAL", value))
    except ScanError as error:
        assert error.code == code
    else:
        assert code == ""


@pytest.fixture
def kind(tmp_path: Path, write_series: Any) -> Callable[..., str]:
    """Why a file can't be used, by what its header says; empty when it can."""

    def code(syntax: str = "", **attributes: Any) -> str:
        path = write_series(tmp_path / "one", [(-15.0, -15.0, 0.0)], shape=(16, 16), **attributes)[0]
        if syntax:
            dataset = pydicom.dcmread(path)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.PixelData = encapsulate([b"anything"])
            dataset.save_as(path)
        problem = examine(path).problem
        return "" if problem is None else problem.code

    return code


STORAGE = "1.2.840.10008.5.1.4.1.1."
"""Of the storage classes of PS3.4 B.5."""


@pytest.mark.parametrize(
    ("number", "modality"),
    [
        ("4", "MR"), ("128", "PT"), ("88.11", "SR"), ("88.67", "SR"), ("66.4", "SEG"), ("481.2", "RTDOSE"),
        ("481.3", "RTSTRUCT"), ("9.1.1", "ECG"), ("104.1", "DOC"), ("11.1", "PR"), ("2", "MR"), ("999", "CT"),
    ],
)  # fmt: skip
def test_objects_that_are_no_ct_are_named(kind: Any, number: str, modality: str) -> None:
    assert kind(SOPClassUID=STORAGE + number, Modality=modality) == "not_ct"


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        *[({"SOPClassUID": STORAGE + end}, "secondary_capture") for end in ("7", "7.1", "7.2", "7.3", "7.4")],
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary_capture"),
        ({"SamplesPerPixel": 3}, "secondary_capture"),
        ({"SOPClassUID": STORAGE + "7", "ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "dose_page"),
    ],
)
def test_pictures_are_told_from_slices(kind: Any, attributes: dict[str, Any], code: str) -> None:
    assert kind(**attributes) == code


@pytest.mark.parametrize(
    "word", ["PERFUSION", "CBF", "TMAX", "MIP", "MINIP", "MAX_IP", "VRT", "3D", "CURVED", "CURVED_MPR", "SUBTRACTION"]
)
def test_what_was_computed_from_ct_is_no_ct(kind: Any, word: str) -> None:
    assert kind(ImageType=["DERIVED", "SECONDARY", "AXIAL", word]) == "derived_map"


@pytest.mark.parametrize("end", ["50", "51"])
def test_lossy_syntaxes_are_refused_by_name(kind: Any, end: str) -> None:
    assert kind(f"1.2.840.10008.1.2.4.{end}") == "lossy"

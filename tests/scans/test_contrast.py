"""Whether contrast was given: free texts, coded sequences, volumes, and the usage of each frame."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from molre_edge.scans.contrast import has_contrast, names_no_agent
from molre_edge.scans.dicom_access import frame_attributes


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "NONE", "none", "NO", "N", "NO CONTRAST", "No IV contrast", "WITHOUT", "WITHOUT CONTRAST", "W/O",
        "w/o contrast", "WO CONTRAST", "N/A", "NA", "n.a.", "NIL", "-", "0", "0 ml", "UNKNOWN", "ohne KM", "OHNE",
        "ohne Kontrastmittel", "kein KM", "NATIVE", "nativ", "sans contraste", "sin contraste", "senza mdc",
        "sem contraste", "NON CONTRAST", "NON-CONTRAST", "Not applicable", "NONE GIVEN", "UNENHANCED",
        "zonder contrast", "NO ORAL CONTRAST", "NO IV ORAL CONTRAST",
    ],
)  # fmt: skip
def test_texts_that_name_no_agent(text: str) -> None:
    assert names_no_agent(text)


@pytest.mark.parametrize(
    "text",
    [
        "IOHEXOL", "Omnipaque 350", "APPLIED", "CONTRAST", "IV", "KM", "NON-IONIC", "NONIONIC 100 ML", "WITH", "YES",
        "WITHOUT AND WITH CONTRAST", "NO ORAL, IV CONTRAST", "NO ORAL CONTRAST, IV GIVEN",
        "Novalis", "100 ml", "mit KM", "CE", "No. 5 Ultravist", "造影剤",
    ],
)  # fmt: skip
def test_texts_that_name_an_agent(text: str) -> None:
    assert not names_no_agent(text)


def item(**values: object) -> Sequence:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return Sequence([dataset])


@pytest.mark.parametrize(
    ("attributes", "given"),
    [
        ({}, False),
        ({"ContrastBolusAgent": "NO CONTRAST"}, False),
        ({"ContrastBolusAgent": "X"}, True),
        ({"ContrastBolusVolume": 60}, True),
        ({"ContrastBolusVolume": 0, "ContrastBolusAgent": "NONE"}, False),
        ({"ContrastBolusTotalDose": "12.5"}, True),
        ({"ContrastBolusAgentSequence": item(CodeMeaning="Iohexol")}, True),
        ({"ContrastBolusAgentSequence": item(CodeMeaning="None")}, False),
        ({"ContrastBolusAgentSequence": Sequence([])}, False),
        ({"ContrastBolusIngredient": "IODINE"}, True),
        ({"ContrastBolusIngredient": "NONE"}, False),
    ],
)
def test_a_classic_header(attributes: dict[str, object], given: bool) -> None:
    dataset = Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    [frame] = frame_attributes(dataset, 1)
    assert has_contrast(frame) is given


def test_the_usage_of_a_frame_decides_over_the_file() -> None:
    dataset = Dataset()
    dataset.ContrastBolusAgentSequence = item(CodeMeaning="Iohexol", ContrastBolusAgentNumber=1)
    frames = []
    for administered, detected in (("YES", "NO"), ("NO", "NO"), ("NO", "YES")):
        frame = Dataset()
        frame.ContrastBolusUsageSequence = item(
            ContrastBolusAgentNumber=1,
            ContrastBolusAgentAdministered=administered,
            ContrastBolusAgentDetected=detected,
        )
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    assert [has_contrast(frame) for frame in frame_attributes(dataset, 3)] == [True, False, True]

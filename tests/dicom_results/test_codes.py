"""Each finding has one code; those of other schemes are what those schemes say."""

from __future__ import annotations

from pydicom.sr.codedict import codes

from molre_edge.dicom_results.codes import OWN_SCHEME, code_of, finding_codes
from molre_edge.findings import default_findings


def test_each_finding_has_one_code_and_no_two_the_same() -> None:
    known = finding_codes()
    assert list(known) == [finding.name for finding in default_findings()]
    assert len({(code.scheme, code.value) for code in known.values()}) == len(known)
    assert {code.scheme for code in known.values()} == {"SCT", OWN_SCHEME}
    for code in known.values():
        assert 0 < len(code.value) <= 16 and 0 < len(code.meaning) <= 64 and code.meaning.isascii()


def test_codes_of_snomed_have_its_check_digit() -> None:
    """Verhoeff's, which the last digit of each SCTID is: a digit that is mistyped does not pass."""
    numbers = [code.value for code in finding_codes().values() if code.scheme == "SCT"]
    assert len(numbers) > 10 and all(map(verhoeff, numbers))
    assert not verhoeff("1386001") and not verhoeff("1836000")
    assert codes.SCT.IntracranialHemorrhage.value == code_of("intracranial_hemorrhage_any").value


def test_a_finding_that_the_project_does_not_know_gets_a_code_of_its_own() -> None:
    one, other = code_of("my_finding"), code_of("my_other_finding")
    assert one == code_of("my_finding") != other
    assert one.scheme == OWN_SCHEME and len(one.value) <= 16 and one.meaning == "my finding"
    assert len(code_of("x" * 200).meaning) == 64


def verhoeff(number: str) -> bool:
    def times(a: int, b: int) -> int:  # in the dihedral group of ten
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
        return 5 + (a - b) % 5 if b < 5 else (a - b) % 5

    permutation, row = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4], list(range(10))
    total = 0
    for digit in reversed(number):
        total = times(total, row[int(digit)])
        row = [row[each] for each in permutation]
    return total == 0

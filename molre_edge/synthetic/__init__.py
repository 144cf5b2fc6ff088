"""A synthetic head CT from a seed, with findings on request: for demos, golden answers, tests and first trainings."""

from molre_edge.synthetic.catalogue import SUPPORTED_FINDINGS, random_findings
from molre_edge.synthetic.files import write_dicom_series, write_nifti
from molre_edge.synthetic.head import SyntheticHead, make_head

__all__ = [
    "SUPPORTED_FINDINGS",
    "SyntheticHead",
    "make_head",
    "random_findings",
    "write_dicom_series",
    "write_nifti",
]

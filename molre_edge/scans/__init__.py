"""From files to the model's grid: find head CT scans (DICOM, NIfTI), read and check them, resample them.

Nothing here imports pydicom, SimpleITK or nibabel before a file is really read. Synthetic heads are in
`molre_edge.synthetic`.
"""

from molre_edge.scans.attended import Attended, attended_image, attended_slice
from molre_edge.scans.find import find_scans
from molre_edge.scans.grid import resample, to_grid
from molre_edge.scans.read import read_scan
from molre_edge.scans.scan_records import (
    Candidate,
    FoundFile,
    FoundScans,
    HeadVolume,
    RejectedScan,
    ScanSource,
    ScanWarning,
    SliceSource,
)
from molre_edge.scans.slice_map import GridSlice, map_slices

__all__ = [
    "Attended",
    "Candidate",
    "FoundFile",
    "FoundScans",
    "GridSlice",
    "HeadVolume",
    "RejectedScan",
    "ScanSource",
    "ScanWarning",
    "SliceSource",
    "attended_image",
    "attended_slice",
    "find_scans",
    "map_slices",
    "read_scan",
    "resample",
    "to_grid",
]

"""Answers as DICOM objects: a coded structured report, and a page for viewers that show none (extra ``dicom``)."""

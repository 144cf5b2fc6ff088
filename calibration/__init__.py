"""Calibration: a bundle's float32 graph and head CT scans become an INT8 or FP8 graph within the parity limits.

:func:`molre_edge.calibration.run.calibrate_bundle` runs four phases, each in a file of its name: prepare, search,
confirm, keep.
"""

"""Calibration: from a bundle's float32 graph and head CT scans to an INT8 graph within the parity budget."""

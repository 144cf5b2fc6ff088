"""From scans to findings: pipeline, timing, results files, resume."""

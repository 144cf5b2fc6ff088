"""From scans to findings: the run, its store, its conclusion, and runs made again."""

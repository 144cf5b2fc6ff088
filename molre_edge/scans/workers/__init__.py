"""Worker processes that read scans ahead of the engine."""

"""Worker processes that look for scans, and that read them ahead of the engine."""

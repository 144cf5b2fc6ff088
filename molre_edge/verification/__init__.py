"""Hashes, then golden answers through an engine, on this box."""

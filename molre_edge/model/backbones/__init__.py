"""Backbones: a registry, one file an architecture."""

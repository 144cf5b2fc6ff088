"""Signatures in minisign's format, the keys that a box trusts, and what the box remembers about them."""

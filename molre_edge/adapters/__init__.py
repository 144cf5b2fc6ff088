"""Adapters as files: what was trained, as data beside a frozen backbone."""

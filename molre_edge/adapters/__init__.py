"""Adapters as data: everything that was trained, apart from the frozen backbone that graphs and engines hold."""

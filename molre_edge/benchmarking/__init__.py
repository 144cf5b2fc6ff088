"""Runners side by side: latency, throughput, memory and power."""

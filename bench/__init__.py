"""Benchmarks: Jackline beside a minimal Node agent and `ssh -tt`, on this machine's loopback."""

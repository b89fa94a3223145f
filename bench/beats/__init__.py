"""Beats at one hub process: none lost, how late, and how many beside a bare insert."""

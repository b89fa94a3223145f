"""Backups of machines: planned, approved, run, verified and restored."""

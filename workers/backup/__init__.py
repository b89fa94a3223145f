"""Backups: plans, runs, and what is done with them afterwards."""

"""The jobs: one process each, behind a private queue pair."""

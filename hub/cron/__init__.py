"""Crontabs of machines: read, compared, replaced, their history, undone."""

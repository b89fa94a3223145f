"""Revisions of the database, applied in order by hub.db.migrate."""

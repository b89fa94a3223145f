"""Worker kind admin: one command each."""

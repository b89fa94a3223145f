"""Worker kind keys: one sync of authorized_keys each."""

"""Worker kind shell: one session each."""

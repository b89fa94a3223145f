"""What a machine lets be looked at: one directory, and the end of its agent's own log."""

"""People: tenants, users, sessions, API tokens."""

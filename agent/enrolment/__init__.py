"""How a machine is enrolled: what `jackline enroll` and `jackline unenroll` do, step by step."""

"""The checks behind `jackline doctor`, one file per thing checked."""

"""The endpoint's link and supervision: one process that runs no job code."""

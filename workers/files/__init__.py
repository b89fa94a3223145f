"""Worker kind files: log tails and directory lists."""

"""Key sync: whose keys, what would change, and the order to change it."""

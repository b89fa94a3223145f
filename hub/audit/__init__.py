"""What was asked, what was refused, what came of it."""

"""Jobs: what agents are asked to do, queued, sent once, and followed to their end."""

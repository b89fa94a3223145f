"""Shells: sessions of operators on agents, live, recorded, and played back."""

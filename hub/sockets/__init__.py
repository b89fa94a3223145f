"""Sockets: Engine.IO and Socket.IO as the hub speaks them, and the consoles' namespace."""

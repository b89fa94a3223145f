"""The hub's links under load, beside a bare python-socketio and a bare Node server."""

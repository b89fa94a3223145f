"""What supervisord loads: the event listener and the supervisorctl plugin."""

"""Machines without an open socket: enrolment, the HTTPS beat, commands that ride on it."""

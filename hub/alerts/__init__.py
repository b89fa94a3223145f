"""Alerts: what is wrong with machines, once each, told to wherever the tenant wants it."""

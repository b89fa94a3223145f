"""The pages that an operator keeps open: server-rendered, live by one socket, strict CSP."""

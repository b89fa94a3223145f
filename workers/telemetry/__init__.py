"""Worker kind telemetry: samples of the machine."""

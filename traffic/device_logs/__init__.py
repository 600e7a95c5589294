"""Logs and sensor readings of devices: read, grouped by kind, put on the capture's clock."""

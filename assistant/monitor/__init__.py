"""A plant watched live: sources, the recent past as a capture, alarms."""

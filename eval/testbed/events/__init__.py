"""Faults, misconfigurations, attacks and routines: what can happen, to whom, and how it is done."""

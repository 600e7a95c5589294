"""Labelled captures: found, read, simulated."""

from traffic.datasets.labelled import (
    Labelled,
    find_labelled,
    load_labelled,
    load_marked,
    name_capture,
    simulate_labelled,
)

__all__ = [
    "Labelled",
    "find_labelled",
    "load_labelled",
    "load_marked",
    "name_capture",
    "simulate_labelled",
]

"""A synthetic plant and its traffic, with faults, attacks and their ground truth."""

"""Adapters of sites: made, moved, followed, merged, sent and taken."""

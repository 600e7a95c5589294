"""Whether the truth of a run is true: its intervals are looked for in the packets, by rules."""

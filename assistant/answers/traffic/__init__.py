"""From the tables of traffic: who, what, how many, how often, how fast."""

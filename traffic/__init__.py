"""Traffic: captures become flows, samples and windows. Imports nothing of the packages above it."""

"""Operators' feedback to an aligned adapter: claims, evidence, preferences, rewards, trainers."""

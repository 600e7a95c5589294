"""Evaluation: what the models, the search and the answers are worth."""

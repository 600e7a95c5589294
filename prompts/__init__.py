"""Prompts: every text a model ever sees."""

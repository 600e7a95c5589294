"""Answers about requests: what is asked, answered, refused, written and commanded."""

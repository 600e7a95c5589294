"""About attacks: who attacks whom, by what, and with what success."""

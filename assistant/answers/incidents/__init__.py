"""About one incident: its cause, its course, how bad it is, what to do."""

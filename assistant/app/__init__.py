"""The operators' page, on this machine only."""

from assistant.app.page import serve

__all__ = ["serve"]

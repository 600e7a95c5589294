"""The operators' page, on this machine only."""

from assistant.app.page import build_page
from assistant.app.subject import Subject

__all__ = ["Subject", "build_page"]

"""Verdicts, rules, alert correlation and incidents of a capture."""

from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis, analyse, analyse_capture

__all__ = ["Analysis", "Incident", "analyse", "analyse_capture"]

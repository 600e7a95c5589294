"""Diagnose: a question about an analysed capture becomes an answer with everything it rests on."""

from assistant.diagnosis.diagnose import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]

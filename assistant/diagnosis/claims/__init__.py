"""Claims: whether a fact bears what a sentence of a writer says."""

from assistant.diagnosis.claims.compare import find_fault

__all__ = ["find_fault"]

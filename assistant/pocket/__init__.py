"""The model that ships: ``base/`` and, tuned on it, ``adapter/`` with its card."""

from pathlib import Path

POCKET = Path(__file__).parent / "adapter"

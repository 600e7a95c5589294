"""Where a pretraining run stands, so that one that is killed goes on."""

import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Checkpoint"]

CHECKPOINT_S = 60.0


class Checkpoint:
    """Where a run stands, on disk once a minute and after each phase."""

    def __init__(self, path: Path, model: Any, optimizer: Any) -> None:
        self._path, self._model, self._optimizer = path, model, optimizer
        self._phase, self._losses, self._recent = 0, [], []  # type: ignore[var-annotated]
        self._written = time.monotonic()
        self.step, self.elapsed_s = 0, 0.0

    def read(self) -> tuple[int, list[float]]:
        """Continue what lies there: the phase to train next and the losses of those before it."""
        import torch

        if self._path.is_file():
            state = torch.load(self._path, weights_only=True)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._phase, self.step, self.elapsed_s = state["phase"], state["step"], state["elapsed_s"]
            self._losses, self._recent = state["losses"], state["recent"]
        return self._phase, self._losses

    def record(self, step: int, loss: float) -> None:
        self.step = step
        self._recent.append(loss)
        if time.monotonic() - self._written > CHECKPOINT_S:
            self._write()

    def finish_phase(self) -> list[float]:
        last = self._recent[-max(1, len(self._recent) // 10) :]
        self._losses.append(float(np.mean(last)) if last else float("nan"))
        self._phase, self.step, self.elapsed_s, self._recent = self._phase + 1, 0, 0.0, []
        self._write()
        return self._losses

    def _write(self) -> None:
        import torch

        state = {"phase": self._phase, "step": self.step, "elapsed_s": self.elapsed_s, "losses": self._losses}
        weights = {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}
        torch.save({**state, **weights, "recent": self._recent}, self._path.with_suffix(".new"))
        self._path.with_suffix(".new").replace(self._path)
        self._written = time.monotonic()

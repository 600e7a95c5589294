"""What lies in ``results/``: every run, read once, and the newest of each kind that a question may be decided by."""

import json
from dataclasses import dataclass
from pathlib import Path

from eval.answers.results import AnswersRun, RetrievalRun, read_answers_run, read_retrieval_run
from eval.results import Run, read_run
from traffic.errors import UserError

__all__ = ["Evidence", "command_for", "read_evidence"]


@dataclass(frozen=True)
class Evidence:
    """Runs of all kinds; of detection those that are no quick ones, by name.

    Attributes:
        runs: of detection.
        retrieval: of the search, the newest; None where there is none.
        answers: of answers, the newest; None where there is none.
    """

    runs: tuple[Run, ...] = ()
    retrieval: RetrievalRun | None = None
    answers: AnswersRun | None = None

    def run_of(self, protocol: str) -> Run | None:
        """The newest run of a protocol."""
        runs = [run for run in self.runs if run.protocol.get("name") == protocol]
        return max(runs, key=lambda run: run.created) if runs else None


def command_for(protocol: str) -> str:
    """The command that makes a run of a protocol."""
    return f"faultwise eval detection --protocol {protocol} --data DIR"


def read_evidence(folder: Path) -> Evidence:
    """Read every file of results in a folder; nothing where there is no folder.

    Raises:
        UserError: one of them cannot be read, or is of a form that this release does not know.
    """
    paths: dict[str, list[Path]] = {"detection": [], "retrieval": [], "answers": []}
    for path in sorted(folder.glob("*.json")):
        kind = _kind(path)
        if kind not in paths:
            raise UserError(
                f"{path} holds results of kind {kind!r}; expected any of {', '.join(paths)}; move it elsewhere"
            )
        paths[kind].append(path)
    found = [read_retrieval_run(path) for path in paths["retrieval"]]
    answers = [read_answers_run(path) for path in paths["answers"]]
    return Evidence(
        tuple(run for path in paths["detection"] if not (run := read_run(path)).quick),
        max(found, key=lambda run: run.origin.created, default=None),
        max(answers, key=lambda run: run.origin.created, default=None),
    )


def _kind(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no JSON ({error}); expected a run's results; run its command again") from error
    return str(content.get("kind", "")) if isinstance(content, dict) else ""

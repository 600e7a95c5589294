"""Fit which kind of query a question is, and measure that on questions that were not learned from.

    python -m eval.answers.kinds [--write] [QUESTIONS ...]

Learns from the examples of queries.yaml and from assistant/questions/asked; a quarter of the latter
is held out at a time. ``--write`` replaces the weights that ship, and those of symptoms, from
assistant/questions/symptoms. QUESTIONS have the form of tests/cases/questions.yaml or, as .txt, a line
"kind|question" each; any of a question's kinds is right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from assistant.diagnosis import symptoms
from assistant.questions.forms import all_forms
from assistant.questions.kinds import SURE, WEIGHTS, rank_kinds, read_asked
from assistant.questions.queries import find_pattern, read_query
from assistant.questions.text_classifier import fit_classifier, save_classifier

_FOLDS = 4


def measure_kinds() -> str:
    """How often the likeliest kind is right, by how far it is ahead; as Markdown."""
    asked, forms = read_asked(), all_forms()
    lines = [
        (kind, one) for kind, some in asked.items() for one in some[len(forms[kind].examples) :]
    ]
    fold = np.random.default_rng(0).integers(0, _FOLDS, len(lines))
    right, ahead = np.zeros(len(lines), bool), np.zeros(len(lines))
    by_pattern = np.array([find_pattern(one) for _, one in lines])
    meant = np.array([kind for kind, _ in lines])
    for held in range(_FOLDS):
        learnt = {kind: list(form.examples) for kind, form in forms.items()}
        for (kind, one), part in zip(lines, fold, strict=True):
            if part != held:
                learnt[kind].append(one)
        rows = np.flatnonzero(fold == held)
        texts, patterns = [lines[row][1] for row in rows], list(by_pattern[rows])
        ranking = rank_kinds(fit_classifier(learnt), texts, patterns)
        right[rows], ahead[rows] = ranking.kinds[:, 0] == meant[rows], ranking.lead
    known, sure = by_pattern != "", ahead >= SURE
    return _table(
        ("of held-out questions", "n", "right kind"),
        [
            ("all", right),
            ("by the first pattern alone, where one is found", (by_pattern == meant)[known]),
            ("where the best is far ahead", right[sure]),
            ("where it is not: a guess", right[~sure]),
        ],
    )


def measure_file(path: Path) -> str:
    """The same of questions in a file, by the weights that ship."""
    cases = read_cases(path)
    found = [read_query(case["question"], _several(case.get("about"))) for case in cases]
    right = np.array(
        [
            (one.kind or "none") in _several(case["kind"])
            for one, case in zip(found, cases, strict=True)
        ]
    )
    guessed = np.array([one.guessed for one in found])
    rows = [("all", right), ("not guessed", right[~guessed]), ("guessed", right[guessed])]
    return _table((path.name, "n", "right kind"), rows)


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Questions with their kinds, of a YAML file or of lines "kind,kind|question"."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".txt":
        return list(yaml.safe_load(text))
    parts = (line.split("|", 1) for line in text.splitlines())
    return [{"kind": kinds.split(","), "question": question} for kinds, question in parts]


def _several(value: str | list[str] | None) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []


def _table(heads: Sequence[str], rows: Sequence[tuple[str, np.ndarray]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {len(of):,} | {of.mean():.3f} |" for name, of in rows if len(of)]
    return "\n".join(lines)


def main(
    files: Annotated[list[Path] | None, typer.Argument()] = None,
    write: Annotated[bool, typer.Option("--write")] = False,
) -> None:
    """Measure, and write the weights where that is asked for."""
    if write:
        save_classifier(fit_classifier(read_asked()), WEIGHTS)
        save_classifier(fit_classifier(symptoms.read_symptoms()), symptoms.WEIGHTS)
    else:
        typer.echo(measure_kinds())
    for file in files or ():
        typer.echo(f"\n{measure_file(file)}")


if __name__ == "__main__":
    typer.run(main)

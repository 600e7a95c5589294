"""What a base costs and gives: several tuned by the command on the same captures.

    python -m eval.research.bases --work FOLDER --base assistant/pocket/base --base smol4=qlora
        [--options '...'] [--out FILE]

Simulated plants are learned from, two others measured, one that the run draws calibrates. The two
are classified by the command as well, which is timed: what `finetune sft` says of its own test
captures and what a site is served come from the same weights.
"""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from assistant.llm.adapters import read_card
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, Work, publish, run, start
from eval.research.experts import simulate_plants
from traffic.files import write_text
from traffic.labels import LABELS

_PLANTS, _TESTED = 6, 2
_DEVICES, _HOURS = 4, 0.1
_MEASURES = ("macro_f1", "recall", "false_share")
_OPTIONS = "--plants 0 --per-label 20 --epochs 2 --batch 16 --rank 8 --max-minutes 4"


@dataclass(frozen=True)
class Base:
    """A model's folder and how it is tuned."""

    folder: Path
    method: str = "lora"

    @property
    def name(self) -> str:
        """Of its adapter."""
        return f"{self.folder.parent.name}-{self.folder.name}-{self.method}".lower()


@dataclass(frozen=True)
class Tuned:
    """What came of a base.

    Attributes:
        metrics: of its card.
        tuning_s, judging_s: CPU seconds of the whole commands, calibration and measures included.
        windows: that were judged.
    """

    metrics: Mapping[str, float]
    tuning_s: float
    judging_s: float
    windows: int


def read_base(text: str) -> Base:
    """A base as it is named on the command line: FOLDER or FOLDER=METHOD.

    >>> read_base("models/smol=qlora")
    Base(folder=PosixPath('models/smol'), method='qlora')
    """
    folder, _, method = text.partition("=")
    return Base(Path(folder), method or "lora")


def tune_base(
    base: Base, data: Path, tests: Sequence[str], home: Path, more: Sequence[str] = ()
) -> Tuned:
    """Tune a base and classify captures by it; what is there is not made again.

    Raises:
        UserError: a command refused.
    """
    file = home / f"{base.name}.json"
    site = ["--home", str(home), "--site", base.name]
    if not file.is_file():
        held = [word for name in tests for word in ("--exclude", name)]
        asked = ["--base", str(base.folder), "--method", base.method, "--data", str(data)]
        tuning_s = _time(["finetune", "sft", *site, *asked, *held, *more])[0]
        judged = [
            _time(["classify", str(data / name), *site, "--format", "jsonl"]) for name in tests
        ]
        windows = sum(len(said.splitlines()) for _, said in judged)
        spent = {"tuning_s": tuning_s, "judging_s": sum(took for took, _ in judged)}
        write_text(file, json.dumps({**spent, "windows": windows}))
    (card,) = (home / "adapters" / base.name).glob("*/card.json")
    return Tuned(read_card(card.parent).metrics, **json.loads(file.read_text(encoding="utf-8")))


def _time(words: Sequence[str]) -> tuple[float, str]:
    began = time.process_time()
    said = run(words)
    return time.process_time() - began, said


def count_parameters(folder: Path) -> int:
    """How many numbers the weights of a folder hold; ties are counted once."""
    from safetensors import safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as weights:
            for name in weights.keys():  # noqa: SIM118  a handle is no dict
                size = 1
                for side in weights.get_slice(name).get_shape():
                    size *= side
                total += size
    return total


def render_bases(made: dict[Base, Tuned], tests: Sequence[str]) -> str:
    """A row a base: size, what it reached, what it cost."""
    heads = (
        "base", "tuned by", "parameters", "loss", "held out", "macro-F1", "anomalies alarmed",
        "false", "CPU s to tune", "windows judged a CPU second",
    )  # fmt: skip
    rows = []
    for base, tuned in made.items():
        shares = []
        for measure in _MEASURES:
            values = [tuned.metrics.get(f"{name}.{measure}") for name in tests]
            known = [value for value in values if value is not None]
            shares.append(f"{sum(known) / len(known):.3f}" if known else "–")
        losses = (f"{tuned.metrics[name]:.3f}" for name in ("train.loss", "held_out.loss"))
        speed = f"{tuned.windows / tuned.judging_s:,.1f}"
        size = f"{count_parameters(base.folder):,}"
        name = f"{base.folder.parent.name}/{base.folder.name}"
        rows.append((name, base.method, size, *losses, *shares, f"{tuned.tuning_s:,.0f}", speed))
    notes = (
        "loss: nats a token of the answer, of what is learned and of what is held out; measures are "
        f"means over {', '.join(tests)}, each model by its own bounds",
        "seconds are those of the whole command, calibration and measures included",
    )
    return render_table(ReportTable("Bases", heads, tuple(rows), notes=notes))


def main(
    work: Work,
    base: Annotated[list[str], typer.Option(help="DIR, or DIR=METHOD.")],
    options: Annotated[str, typer.Option(help="Of `faultwise finetune sft`.")] = _OPTIONS,
    out: Out = None,
) -> None:
    """Make, measure, and print or write the page."""
    data = work / "plants"
    tests = simulate_plants(data, _PLANTS, _DEVICES, _HOURS)[-_TESTED:]
    bases = [read_base(text) for text in base]
    more = shlex.split(options)
    made = {one: tune_base(one, data, tests, work / "home", more) for one in bases}
    asked = " ".join(f"--base {one.folder.name}={one.method}" for one in bases)
    command = f"python -m eval.research.bases --work FOLDER {asked} --options '{options}'"
    page = (
        f"# Bases\n\nMade by `{command}`. Each base is tuned on the same {_PLANTS - _TESTED} simulated "
        f"plants of {_DEVICES} devices and {60 * _HOURS:g} minutes, one of which calibrates, and measured on "
        f"{_TESTED} others. {len(LABELS)} labels, so few windows, and so few minutes make no good model of any "
        "base: the table says what a step costs, and that the way from captures to verdicts is whole.\n\n"
        f"{render_bases(made, tests)}\n"
    )
    publish(page, out)


if __name__ == "__main__":
    start(main)

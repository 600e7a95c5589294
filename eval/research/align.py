"""What operators' feedback is worth: each method of `faultwise finetune align`, measured.

    python -m eval.research.align CAPTURE... --work FOLDER [--seeds 3] [--bot CAPTURE]

Operators are played by the truth beside labelled captures: what the shipped adapter raises is
confirmed where the device's windows show that label, corrected where they show another (every
fourth time without saying which), and called a false alarm where they show nothing. The command
aligns the adapter with the remarks on three quarters of the captures; the rest is measured before
and after. Last, ten remarks call a bot of ``--bot`` normal that is none.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from assistant.chat.exported import EXPORTED
from assistant.detection.classify import classify
from assistant.detection.incidents import Incident
from assistant.detection.pipeline import Analysis, analyse_capture
from assistant.llm.adapters import POCKET, read_card
from assistant.registry import load_registered
from eval.report.tables import ReportTable, render_table
from eval.research.command import Out, Work, choose, publish, run, start
from traffic.datasets import load_marked, name_capture
from traffic.datasets.formats import label_flows
from traffic.datasets.labelling import label_windows
from traffic.errors import UserError
from traffic.files import write_text
from traffic.labels import NORMAL, UNKNOWN

HOWS = ("kto", "dpo", "grpo", "rloo")
REWARD = "reward"  # a reward model alone
SITE = "measured"
_OPEN = 4  # every fourth correction does not say what it was
_NOW_S = 1_800_000_000.0
_WRONG = 10  # remarks that call a bot normal
_MEASURES = (
    ("held_out.likelihood", "likelihood of what was said"),
    ("held_out.right", "right"),
    ("held_out.false_alarms", "false alarms again"),
    ("truth.recall", "anomalies alarmed"),
    ("truth.false_share", "false"),
)


@dataclass(frozen=True)
class Played:
    """A capture with its truth, and what operators said of it.

    Attributes:
        path: of the capture.
        analysis: by the shipped adapter.
        labels: true label of each window, shape (n_windows,).
        remarks: shape (n, 12), as `faultwise feedback export` writes them.
    """

    path: Path
    analysis: Analysis
    labels: np.ndarray
    remarks: pd.DataFrame


def play_operators(path: Path) -> Played:
    """Judge a labelled capture by the shipped adapter, and say of each incident what it truly was.

    Raises:
        UserError: the capture has no truth.
    """
    marked = load_marked(path)
    analysis = analyse_capture(marked.capture, *load_registered(POCKET), marked.plant)
    flows = marked.labels if marked.labels is not None else label_flows(marked.capture.flows)
    windows = label_windows(analysis.windows, marked.capture, flows, marked.intervals)
    labels = windows.table["label"].to_numpy(object)
    said = [(one, find_truth(one, windows.table)) for one in analysis.incidents]
    rows, corrected = [], 0
    for incident, true in said:
        if true == UNKNOWN:
            continue  # nobody can tell
        corrected += true not in (NORMAL, incident.label)
        open_ = true not in (NORMAL, incident.label) and corrected % _OPEN == 0
        rows.append(make_remark(incident, "" if open_ else true))
    return Played(path, analysis, labels, pd.DataFrame(rows, columns=list(EXPORTED)))


def find_truth(incident: Incident, windows: pd.DataFrame) -> str:
    """What a device truly showed in an incident: the label of most of its anomalous windows then,
    of the incident's own where some have it; ``unknown`` where its windows tell nothing.

    Args:
        incident: as it was raised.
        windows: ``device start_s end_s label`` of the capture, ``label`` the truth.
    """
    inside = (windows["start_s"] < incident.end_s) & (windows["end_s"] > incident.start_s)
    labels = windows.loc[inside & (windows["device"] == incident.device), "label"]
    odd = labels[~labels.isin([NORMAL, UNKNOWN])]
    if (odd == incident.label).any():
        return incident.label
    if len(odd):
        return str(odd.mode().iloc[0])
    return NORMAL if len(labels) and (labels == NORMAL).all() else UNKNOWN


def make_remark(
    incident: Incident, said: str, name: str = "", at_s: float = _NOW_S
) -> dict[str, object]:
    """One row of exported feedback."""
    act = {NORMAL: "false_alarm", incident.label: "confirm"}.get(said, "wrong")
    return {
        "device": incident.device, "start_s": incident.start_s, "end_s": incident.end_s,
        "incident": name or incident.id, "label_shown": incident.label, "label_said": said,
        "act": act, "who": "operator", "why": "", "at_s": at_s, "until_s": np.nan, "undone": False,
    }  # fmt: skip


# ---- The command, as an operator runs it ----


def run_align(
    home: Path, captures: Sequence[Path], remarks: pd.DataFrame, family: str, *more: str
) -> str:
    """Align by the command; what it printed.

    Raises:
        UserError: the command refused.
    """
    home.mkdir(exist_ok=True)
    file = home / f"{family}.csv"
    remarks.to_csv(file, index=False)
    asked = [word for path in captures for word in ("--capture", str(path))]
    words = ["--home", str(home), "--site", SITE, "--feedback", str(file), "--family", family]
    begin = ["--begin", str(POCKET), "--replace"]
    said = run(["finetune", "align", *words, *asked, *begin, *more], family)
    sys.stderr.write(f"{family}\n{said}\n")
    return said


def measure_methods(
    home: Path,
    captures: Sequence[Path],
    remarks: pd.DataFrame,
    seeds: int,
    hows: Sequence[str],
    more: Sequence[str],
) -> pd.DataFrame:
    """Cards' metrics of every method and seed: a row each, with ``how seed used``. What a run that
    was killed has made is not made again."""
    rows = []
    for seed in range(seeds):
        for how in hows:
            family = f"{how}-{seed}"
            folder, note = home / "adapters" / SITE / family, home / f"{family}.txt"
            if not note.is_file():
                asked = ("--how", how, "--seed", str(seed), *more)
                write_text(note, run_align(home, captures, remarks, family, *asked))
            used = "uses it" in note.read_text(encoding="utf-8")
            metrics = dict(read_card(folder).metrics)
            rows.append({"how": how, "seed": seed, "used": used, **metrics})
    return pd.DataFrame(rows)


def measure_reward(
    home: Path, captures: Sequence[Path], remarks: pd.DataFrame, seeds: int, more: Sequence[str]
) -> list[list[str]]:
    """How often a reward model prefers what a person said, beside the adapter's own likelihood."""
    rows = []
    for seed in range(seeds):
        note = home / f"reward-{seed}.txt"
        if not note.is_file():
            asked = ("--how", "reward", "--seed", str(seed), *more)
            write_text(note, run_align(home, captures, remarks, note.stem, *asked))
        lines = note.read_text(encoding="utf-8").splitlines()
        line = next(one for one in lines if one.startswith("held out: pairs right"))
        before, after = (word.split()[0] for word in line.rpartition(": ")[2].split(", "))
        rows.append([str(seed), before, after])
    return rows


def silence_bot(home: Path, bot: Played, how: str, more: Sequence[str]) -> list[str]:
    """Ten remarks that call a bot normal: how many were set aside, and the share of its windows that
    is alarmed before and after.

    Raises:
        UserError: the capture shows no bot that was found.
    """
    found = [one for one in bot.analysis.incidents if one.label == "c2"]
    true = [one for one in found if find_truth(one, _with_truth(bot)) == "c2"]
    if not true:
        raise UserError(
            f"{bot.path} shows no bot that the shipped adapter finds; expected one; name another"
        )
    wrong = [
        make_remark(true[0], NORMAL, f"wrong-{number}", _NOW_S + number) for number in range(_WRONG)
    ]
    others = bot.remarks[bot.remarks["device"] != true[0].device]
    remarks = pd.concat([others, pd.DataFrame(wrong, columns=list(EXPORTED))], ignore_index=True)
    said = run_align(home, [bot.path], remarks, f"bot-{how}", "--how", how, *more)
    aside = sum(line.startswith("set aside: wrong-") for line in said.splitlines())
    mine = (bot.analysis.windows.table["device"] == true[0].device).to_numpy()
    which = np.flatnonzero(mine & (bot.labels == "c2"))
    shares = [
        _alarmed(bot, which, folder) for folder in (POCKET, home / "adapters" / SITE / f"bot-{how}")
    ]
    used = "yes" if "uses it" in said else "no"
    return [how, f"{aside} of {_WRONG}", str(len(which)), *(f"{one:.3f}" for one in shares), used]


def _with_truth(one: Played) -> pd.DataFrame:
    return one.analysis.windows.table.assign(label=one.labels)


def _alarmed(one: Played, which: np.ndarray, folder: Path) -> float:
    llm, card = load_registered(folder)
    verdicts = classify(one.analysis.windows, llm, card, plant=one.analysis.plant)
    return float((verdicts["label"].to_numpy(object)[which] != NORMAL).mean())


# ---- The page ----


def render_page(
    metrics: pd.DataFrame,
    rewards: Sequence[Sequence[str]],
    bots: Sequence[Sequence[str]],
    remarks: pd.DataFrame,
    names: Sequence[str],
    command: str,
) -> str:
    """Markdown: what was said, a row a method, the reward model, the bot."""
    acts = remarks["act"].value_counts()
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in acts.items())
    heads = ("method", *(head for _, head in _MEASURES), "moved", "used")
    rows = [tuple(_row(str(how), part)) for how, part in metrics.groupby("how", sort=False)]
    note = "before → after, mean over seeds, in brackets the least and the most after"
    tables = [
        ReportTable("Methods, on feedback held out by capture", heads, tuple(rows), notes=(note,)),
        ReportTable(
            "Reward model: pairs put in the right order, held out",
            ("seed", "by the adapter's likelihood", "by the reward model"),
            tuple(tuple(row) for row in rewards),
        ),
        ReportTable(
            f"{_WRONG} remarks that call a live bot normal",
            (
                "method",
                "set aside",
                "windows of the bot",
                "alarmed before",
                "alarmed after",
                "used",
            ),
            tuple(tuple(row) for row in bots),
        ),
    ]
    intro = (
        "# What feedback is worth\n\n"
        f"Made by `{command}`. Operators are played by the truth of recorded plants that the shipped "
        f"adapter never learned from ({', '.join(names)}): {said}. A window of feedback is right where its "
        'verdict is what the person says; "anomalies alarmed" and "false" are of simulated and '
        "recorded plants with truth, each adapter by its own bounds. A method moved the likelihood "
        "where it rose with every seed.\n\n"
    )
    return intro + "\n\n".join(render_table(one).rstrip() for one in tables if one.rows) + "\n"


def _row(how: str, part: pd.DataFrame) -> list[str]:
    cells = [how]
    for name, _ in _MEASURES:
        if f"{name}.after" not in part:
            cells.append("–")
            continue
        before, after = part[f"{name}.before"], part[f"{name}.after"]
        cells.append(
            f"{before.mean():.3f} → {after.mean():.3f} [{after.min():.3f}, {after.max():.3f}]"
        )
    gain = part["held_out.likelihood.after"] - part["held_out.likelihood.before"]
    moved = "yes" if (gain > 0).all() else "no" if (gain <= 0).all() else "not with every seed"
    return [*cells, moved, f"{int(part['used'].sum())} of {len(part)}"]


def main(
    captures: list[Path],
    work: Work,
    seeds: int = 3,
    how: Annotated[list[str] | None, typer.Option(help="A method alone; by default all.")] = None,
    bot: Annotated[Path | None, typer.Option(help="A capture with a bot that is found.")] = None,
    options: Annotated[
        str, typer.Option(help="Of `faultwise finetune align`: '--most 4 --epochs 2'.")
    ] = "",
    out: Out = None,
) -> None:
    """Measure the methods and print or write the page."""
    more = shlex.split(options)
    work.mkdir(parents=True, exist_ok=True)
    file = work / "remarks.csv"
    if not file.is_file():
        said = pd.concat([play_operators(one).remarks for one in captures])
        write_text(file, said.to_csv(index=False))
    remarks = pd.read_csv(file)
    chosen = choose(how, (*HOWS, REWARD))
    hows = [one for one in chosen if one != REWARD]
    metrics = measure_methods(work, captures, remarks, seeds, hows, more)
    rewards = []
    if REWARD in chosen:
        rewards = measure_reward(work, captures, remarks, seeds, more)
    bots = []
    if bot is not None:
        bots = [silence_bot(work, play_operators(bot), one, more) for one in hows[:1]]
    given = "".join(f"--how {one} " for one in how or ())
    given += f"--seeds {seeds}{' --bot CAPTURE' if bots else ''}"
    given += f" --options '{options}'" if options else ""
    command = f"python -m eval.research.align CAPTURE... {given}"
    names = [name_capture(path) for path in captures]
    publish(render_page(metrics, rewards, bots, remarks, names, command), out)


if __name__ == "__main__":
    start(main)

"""Could the shipped alarm bound be lower? What the plants it was chosen on say, as a page.

    python -m finetune.pocket.alarm_bound --work FOLDER [--run results/NAME.json] [--out FILE]

The bound stands on the card: the smallest that keeps false alarms on held-out plants to the
recipe's share. Here the shipped model scores these plants again, and the bound is chosen by the
same function for other shares and with the prior shift dropped in long episodes. Plants that are
tested choose nothing: what a bound of theirs would give is shown beside, from the curve of a run.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from assistant.llm.adapters import AdapterCard, load_adapter
from assistant.offline import go_offline
from finetune.calibrate import calibrate, judge_windows, score_texts
from finetune.dataset import choose_captures, is_simulated, make_capture_texts, read_texts
from finetune.recipe import Recipe, read_recipe
from finetune.recorded import RECORDED
from finetune.stages import make_once
from traffic.files import write_text
from traffic.labels import NORMAL

_SHARES = (0.005, 0.01, 0.015, 0.02)
_EPISODES = (1.0, 0.8, 0.6)
_AIM = 0.005  # of normal windows, on recorded plants that nobody trained on
_SHOWN = 8  # devices
_NONE = (0, 0)


def read_held_out(card: AdapterCard, recipe: Recipe, work: Path) -> pd.DataFrame:
    """The windows that a card's bounds were chosen on, as `finetune.dataset.make_texts` has them.

    Args:
        card: of the shipped model.
        recipe: says how large its plants are.
        work: keeps their texts.
    """
    houses = recipe.houses.model_copy(update={"train_seeds": _NONE, "test_seeds": _NONE})
    changes = {"train_seeds": _NONE, "test_seeds": _NONE, "houses": houses}
    recorded = [name for name in card.split["calibrate"] if not is_simulated(name)]
    captures = choose_captures(recipe.model_copy(update=changes), (RECORDED,), (), recorded)
    captures = replace(captures, trained=())

    def make(folder: Path) -> None:
        make_capture_texts(folder, captures, recipe)

    make_once(work / "texts", make)
    names = captures.calibrate
    return pd.concat(
        [read_texts(work / "texts" / f"{n}.parquet") for n in names], ignore_index=True
    )


def try_bounds(windows: pd.DataFrame, scores: np.ndarray, recipe: Recipe) -> list[list[str]]:
    """A row for each share of false alarms and bound of an episode: the alarm bound that keeps to
    the share, and what it does to all windows and to those of recorded plants."""
    recorded = ~windows["capture"].map(is_simulated).to_numpy(bool)
    rows = []
    for share in _SHARES:
        for episode in _EPISODES:
            wrong, service = recipe.max_wrong_name, recipe.anomalous_share
            bounds = calibrate(windows, scores, share, wrong, service, (episode,)).bounds
            cells = [f"{share:.1%}", "never" if episode == 1.0 else f"{episode:g}"]
            alarmed = (judge_windows(windows, scores, bounds)["label"] != NORMAL).to_numpy()
            odd = (windows["label"] != NORMAL).to_numpy()
            for which in (np.ones_like(odd), recorded):
                false, found = alarmed[which & ~odd].mean(), alarmed[which & odd].mean()
                cells += [f"{false:.2%}", f"{found:.1%}"]
            rows.append([*cells[:2], f"{bounds.alarm:.2f}", *cells[2:]])
    return rows


def list_false(windows: pd.DataFrame, alarmed: np.ndarray) -> pd.Series:
    """False alarms by capture and device, most first."""
    false = windows[alarmed & (windows["label"] == NORMAL).to_numpy()]
    return false.groupby(["capture", "device"]).size().sort_values(ascending=False)


def read_tested(path: Path) -> str:
    """How many anomalies of a run's captures a bound chosen on them would alarm within the aim."""
    run = json.loads(path.read_text(encoding="utf-8"))
    (row,) = (
        row
        for row in run["pooled"]
        if (row["model"], row["labelling"], row["setting"]) == ("pocket", "corrected", "")
    )
    true = [sum(counts) for counts in row["confusion"]["counts"]]
    calm = true[row["confusion"]["labels"].index(NORMAL)]
    recall, precision = (np.array(row["curves"]["pr"][axis]) for axis in ("x", "y"))
    called = (sum(true) - calm) * recall / np.maximum(precision, 1e-9)
    false = called * (1 - precision) / calm
    most = float(recall[false <= _AIM].max())
    found, alarms = (row["scores"][name]["value"] for name in ("binary_recall", "false_share"))
    return (
        f"On the {len(run['data'])} captures of `{path.name}` the shipped bound alarms {found:.1%} of the "
        f"anomalous windows and {alarms:.2%} of the normal ones. A bound chosen on these same captures, "
        f"which is no test, would alarm {most:.1%} within {_AIM:.1%}."
    )


def render_page(card: AdapterCard, recipe: Recipe, windows: pd.DataFrame, scores: np.ndarray,
                tested: str, command: str) -> str:  # fmt: skip
    """Markdown: the choice on held-out plants, who spends the budget, and the tested ones beside."""
    alarmed = (judge_windows(windows, scores, card.bounds)["label"] != NORMAL).to_numpy()
    calm = (windows["label"] == NORMAL).to_numpy()
    false = list_false(windows, alarmed)
    share = float(alarmed[calm].mean())
    spent = "the budget is spent" if share > 0.95 * recipe.max_false else "some of it is left"
    names = card.split["calibrate"]
    recorded = [name for name in names if not is_simulated(name)]
    heads = ["false at most", "shift dropped from", "alarm from", "false", "alarmed",
             "recorded: false", "recorded: alarmed"]  # fmt: skip
    devices = [[*map(str, key), str(count), f"{count / false.sum():.0%}"]
               for key, count in false.head(_SHOWN).items()]  # fmt: skip
    blocks = [
        "# The alarm bound",
        f"Made by `{command}`: the shipped model on the plants that its bounds were chosen on, "
        f"{len(names) - len(recorded)} simulated ones and {', '.join(recorded)}, {len(windows):,} windows, "
        f"{calm.sum():,} of them normal. The recipe allows {recipe.max_false:.1%} false alarms there, and the "
        f"shipped bound of {card.threshold:g} makes {share:.2%}: {spent}.",
        _tabulate(heads, try_bounds(windows, scores, recipe)),
        f"Who spends it, of {false.sum()} false alarms:",
        _tabulate(["capture", "device", "false alarms", "of all"], devices),
        f"The bound hangs on few devices: without the first one {_without(windows, false, alarmed):.2%} would "
        "be false. Held-out plants are troubled on purpose, with normal devices that look like attacks; their "
        "share is no share of another plant. Leaving out what is hard, or choosing on what is tested, would be "
        "no calibration.",
        tested,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _without(windows: pd.DataFrame, false: pd.Series, alarmed: np.ndarray) -> float:
    """False alarms where the device with most of them is left out."""
    capture, device = false.index[0]
    rest = ~((windows["capture"] == capture) & (windows["device"] == device)).to_numpy()
    return float(alarmed[rest & (windows["label"] == NORMAL).to_numpy()].mean())


def _tabulate(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    work: Annotated[Path, typer.Option(help="Keeps the plants' texts.")],
    run: Annotated[
        Path | None, typer.Option(help="Results that the shipped model was tested in.")
    ] = None,
    out: Path | None = None,
) -> None:
    """Print or write the page."""
    go_offline()
    llm, card = load_adapter()
    recipe = read_recipe()
    windows = read_held_out(card, recipe, work)
    tested = read_tested(run) if run else ""
    results = f" --run results/{run.name}" if run else ""
    command = f"python -m finetune.pocket.alarm_bound --work FOLDER{results}"
    page = render_page(card, recipe, windows, score_texts(windows, llm), tested, command)
    write_text(out, page) if out else sys.stdout.write(page)


if __name__ == "__main__":
    typer.run(main)

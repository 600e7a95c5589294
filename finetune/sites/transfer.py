"""Move a tuned model to a new network with few labels: `faultwise finetune transfer`.

    adapter (of another network) ─▶ merged into its base ─▶ technique ─▶ few labelled captures
                                                                            │
                      registry ◀── card ◀── calibrated on a capture held out ┘

The second paper's three techniques (section IV-C), for a language model:

    new output layer        the answers' words are learned from nothing, all else is trained on
    layer freezing          the same, and the lower half of the layers stays as it is
    reduced learning rate   nothing is drawn anew, and a tenth of the rate moves it

The first two know no label afterwards that the few captures (and simulated plants beside them) do
not show. Which of them is worth what is measured by `faultwise eval transfer`.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from transformers import AutoConfig

from assistant.llm.llama import SMALL_HIDDEN
from assistant.pocket import POCKET
from assistant.registry import check_name, check_single
from finetune.bases import Method
from finetune.dataset import balance_texts, count_texts
from finetune.sft import Knobs, train
from finetune.sites.adapter import Made, Order, make_site_adapter
from finetune.sites.merge import fold
from finetune.sites.replay import knows_directions
from traffic.errors import UserError

TECHNIQUES = ("new output layer", "layer freezing", "reduced learning rate")
# Of small models; larger ones get a tenth, as in `finetune.sft`.
_RATE = 1e-3
_REDUCED = 0.1
# For measuring: a fixed number of steps over few texts, whatever the machine. Words that are learned
# from nothing need some hundred: after 60 the pocket model still called every window normal.
_PER_LABEL, _REPEATS, _STEPS, _NO_CLOCK = 120, 4, 240, 1e6
_MEASURED = Knobs(method="full", batch=32, max_minutes=_NO_CLOCK)


@dataclass(frozen=True)
class Move:
    """What is moved where.

    Attributes:
        begin: the folder of the adapter, or of the model tuned whole, with its card.
        data: folders of the new network's labelled captures, two at least.
        site: the new network.
        family: its name there.
        technique: one of TECHNIQUES.
        freeze: layers from the bottom to freeze; half of them where None.
        method: ``full`` trains and stores a whole model; ``lora`` goes on with the adapter.
        plants: simulated plants beside the captures.
        exclude: captures that are only measured.
        replace: an adapter of this name may give way.
    """

    begin: Path
    data: tuple[Path, ...]
    site: str
    family: str = "transferred"
    technique: str = "reduced learning rate"
    freeze: int | None = None
    method: Method = "full"
    plants: int = 4
    exclude: tuple[str, ...] = ()
    replace: bool = False


def transfer_adapter(
    move: Move, knobs: Knobs, home: Path, progress: Callable[[str, int, int], None]
) -> Made:
    """Move an adapter to a new network, calibrate and register it there.

    Args:
        move: what and where.
        knobs: epochs, batch, minutes, patience and seed; the rest follows from the technique.
        home: the folder of state.
        progress: as `finetune.sites.adapter.make_site_adapter` calls it.

    Raises:
        UserError: the adapter does not fit this release or the technique, or as
            `finetune.sites.adapter.make_site_adapter`.
    """
    check_name(move.site, "site")
    check_name(move.family, "family")
    card = check_single(move.begin)
    base = card.find_base(move.begin)
    adapted = (move.begin / "adapter_config.json").is_file()
    if move.method != "full" and not adapted:
        raise UserError(
            f"{move.begin} is a model that was tuned whole; expected an adapter to go on with; "
            "use --method full"
        )
    knobs = choose_knobs(move.technique, replace(knobs, method=move.method), base, move.freeze)
    learned = (*card.data, *card.split.get("calibrate", ()))
    order = Order(
        base=base,
        data=move.data,
        site=move.site,
        family=move.family,
        plants=move.plants,
        exclude=move.exclude,
        begin=None if move.method == "full" else move.begin,
        replace=move.replace,
        learned=learned,
        directions=knows_directions(move.begin),
        made_by=_command(move, knobs),
    )
    merged = home / "training" / move.site / f"begun-{move.family}"
    if move.method == "full" and adapted:
        shutil.rmtree(merged, ignore_errors=True)
        fold(base, move.begin, merged)
        order = replace(order, base=merged)
    made = make_site_adapter(order, knobs, home, progress=progress)
    shutil.rmtree(merged, ignore_errors=True)
    return made


def choose_knobs(technique: str, knobs: Knobs, base: Path, freeze: int | None = None) -> Knobs:
    """The knobs of a technique.

    Args:
        technique: one of TECHNIQUES.
        knobs: all that no technique decides.
        base: the model's folder.
        freeze: layers to freeze, half of them where None; only for ``layer freezing``.

    Raises:
        UserError: there is no such technique, or layers are to be frozen that it does not freeze.
    """
    if technique not in TECHNIQUES:
        raise UserError(
            f"no technique is called {technique}; expected one of {', '.join(TECHNIQUES)}; correct it"
        )
    if freeze is not None and technique != "layer freezing":
        raise UserError(
            f"{technique} freezes no layer; expected none to freeze; leave --freeze out, or transfer "
            "by layer-freezing"
        )
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    rate = knobs.learning_rate
    if rate is None:
        small = getattr(config, "hidden_size", 10_000) <= SMALL_HIDDEN
        rate = (_RATE if small else _RATE / 10) * (
            _REDUCED if technique == "reduced learning rate" else 1
        )
    if technique == "reduced learning rate":
        return replace(knobs, learning_rate=rate)
    frozen = 0
    if technique == "layer freezing":
        frozen = max(1, config.num_hidden_layers // 2) if freeze is None else freeze
    # An adapter leaves the embedding as it is, so it learns its answers anew by its layers alone.
    new_answers = knobs.method == "full"
    return replace(knobs, learning_rate=rate, frozen=frozen, new_answers=new_answers)


def tune_texts(
    base: Path, adapter: Path | None, texts: pd.DataFrame, technique: str, seed: int, out: Path
) -> None:
    """Move a model by a technique for a measurement, and write it whole.

    Args:
        base: the base model's folder.
        adapter: merged into it first; None for the base alone.
        texts: ``text`` and ``label`` of the new network's labelled windows.
        technique: one of TECHNIQUES.
        seed: of the draw of texts and of training.
        out: gets the model.
    """
    counted = count_texts(texts.assign(capture=""))
    drawn = balance_texts(counted, _PER_LABEL, _REPEATS, seed)
    epochs = math.ceil(_STEPS * _MEASURED.batch / len(drawn))
    knobs = choose_knobs(technique, replace(_MEASURED, seed=seed, epochs=epochs), base)
    with TemporaryDirectory(prefix="faultwise-") as scratch:
        begun = base
        if adapter is not None:
            begun = Path(scratch) / "begun"
            fold(base, adapter, begun)
        train(begun, drawn, out, Path(scratch) / "steps", knobs)


def _command(move: Move, knobs: Knobs) -> str:
    """The command that made it, without a path of this machine."""
    words = [f"faultwise finetune transfer --data FOLDER --site {move.site}"]
    if move.begin.resolve() != POCKET.resolve():
        words.append("--begin ADAPTER")
    words.append(f"--by {move.technique.replace(' ', '-')}")
    if move.freeze is not None:
        words.append(f"--freeze {move.freeze}")
    if move.method != "full":
        words.append(f"--method {move.method}")
    words.append(f"--plants {move.plants} --epochs {knobs.epochs} --seed {knobs.seed}")
    return " ".join([*words, *(f"--exclude {name}" for name in move.exclude)])

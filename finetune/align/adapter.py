"""Align a site's adapter with its operators' feedback: `faultwise finetune align --site NAME`.

    feedback ─▶ claims ─▶ evidence ─▶ windows ─▶ held out by incident ─▶ measured before and after
                                         └─▶ preferences, with known windows beside ─▶ trainer
                                                          calibration ─▶ card ─▶ guard ─▶ registry

The site uses the result only where it is silent about nothing that is proved, and finds no less on
captures with truth than the adapter that it began with.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from assistant.detection.classify import decide, make_probabilities
from assistant.llm.adapters import AdapterCard, prompt_fingerprint, write_card
from assistant.llm.calibration import Bounds
from assistant.llm.local import LocalLLM
from assistant.llm.remembered import Scorer
from assistant.llm.seq2seq import is_seq2seq
from assistant.llm.weights import fingerprint_weights
from assistant.pocket import POCKET
from assistant.registry import (
    Registered,
    check_name,
    check_registered,
    draft_folder,
    find_folder,
    list_registered,
    load_registered,
    register,
)
from finetune.align.claims import Claims, read_claims
from finetune.align.evidence import Windows, check_claims
from finetune.align.preferences import Parts, add_known, choose_rivals, hold_out
from finetune.align.rewards import CHECKED
from finetune.align.trainers import How, Knobs, Reward, RewardModel, align, train_reward
from finetune.calibrate import calibrate_model, judge_windows, measure_windows, score_texts
from finetune.pocket import claim_folder, make_once
from finetune.recipe import Recipe, read_recipe
from finetune.recorded import list_recorded, read_recorded
from finetune.sft import Tuned
from finetune.site import relative_base, round_metrics
from finetune.site_captures import find_captures, make_site_texts
from traffic.errors import UserError
from traffic.files import write_text
from traffic.labels import LABELS, NORMAL
from traffic.plant import Plant

log = logging.getLogger(__name__)

RECORDED = Path(__file__).parents[1] / "recorded.parquet"
Rewarded = Literal["checked", "model"]
_KNOWN_CAPTURES = 12  # recorded plants of which known windows are drawn
_ALLOWED = 0.02  # of proved windows and of all anomalous ones, what may be alarmed less
_LABEL_ALLOWED, _LEAST_WINDOWS = 0.15, 20  # of one label's windows, where there are so many
_REWARD, _TUNED = "reward.json", "tuned.json"


@dataclass(frozen=True)
class Order:
    """What is to be aligned.

    Attributes:
        site: whose adapter; one that has none begins with the shipped one.
        captures: in which the feedback was given.
        feedback: exported files beside the home's own history.
        how: the method, ``reward`` for a reward model alone.
        data: labelled captures to calibrate on.
        plants: simulated plants beside them.
        family: the result's name at the site; by default the begun one's with the method.
        begin: an adapter's folder to begin with, by default what the site uses.
        most: windows of one device and cause that count.
        known: windows with known truth for one of feedback.
        rewards: of GRPO and RLOO: checked by code, or those of the site's reward model.
        replace: an adapter of this name may give way.
    """

    site: str
    captures: tuple[Path, ...]
    feedback: tuple[Path, ...] = ()
    how: How | Literal["reward"] = "kto"
    data: tuple[Path, ...] = ()
    plants: int = 4
    family: str = ""
    begin: Path | None = None
    most: int = 8
    known: float = 2.0
    rewards: Rewarded = "checked"
    replace: bool = False


@dataclass(frozen=True)
class Aligned:
    """What came of it.

    Attributes:
        name: SITE/FAMILY of the adapter, or of the reward model.
        used: the site uses it from now on.
        windows: what was learned from and what was left out, with the reasons.
        parts: of the windows, learned and held out.
        metrics: those of the card.
        warnings: why the site does not use it.
    """

    name: str
    used: bool
    windows: Windows
    parts: Parts
    metrics: dict[str, float]
    warnings: tuple[str, ...]


def _silent(_doing: str, _done: int, _of: int) -> None:
    pass


def align_site(
    order: Order,
    knobs: Knobs,
    home: Path,
    plant: Plant | None = None,
    progress: Callable[[str, int, int], None] = _silent,
) -> Aligned:
    """Check feedback, align an adapter with it, calibrate and register it.

    Args:
        order: what.
        knobs: how.
        home: the folder of state.
        plant: the inventory; by default a plant.yaml in or beside a capture.
        progress: called with what is being done, how much of it is done, and of how much.

    Raises:
        UserError: there is no feedback, or none that captures bear out; the adapter cannot be
            aligned; the name is taken; there is nothing to calibrate on.
    """
    check_name(order.site, "site")
    begin = order.begin or _find_begin(home, order.site)
    card = _check_begin(begin)
    family = check_name(order.family or f"{_family_of(begin, card)}-{order.how}", "family")
    _check_free(order, home, family)
    base = (begin / card.base).resolve()
    rewards = _load_rewards(order, home, card)
    claims = read_claims(home, order.feedback)

    marks = _marks(order, claims, begin)
    checked = home / "training" / order.site / f"feedback-{_digest(marks)}"
    for stale in checked.parent.glob("feedback-????????"):
        if stale != checked:
            shutil.rmtree(stale)
    claim_folder(checked, marks)
    llm, _ = load_registered(begin)
    check = partial(
        _check_windows, order=order, claims=claims, llm=llm, card=card, plant=plant,
        progress=partial(progress, "holding feedback against the captures"),
    )  # fmt: skip
    make_once(checked / "windows", check)
    windows = _read_windows(checked / "windows")
    recipe = read_recipe()
    known, calibrate = _make_known(order, card, windows, recipe, checked / "texts", knobs, progress)

    parts = hold_out(windows.table, knobs.seed)
    learned = choose_rivals(add_known(parts.learned, known, order.known, knobs.seed), llm)
    made_of = {name: value for name, value in asdict(knobs).items() if name != "max_minutes"}
    marks = [*marks, json.dumps([made_of, order.how, order.known, order.rewards, order.plants])]
    work = home / "training" / order.site / f"{family}-{_digest(marks)}"
    claim_folder(work, marks)
    train = partial(
        _train, order=order, knobs=knobs, base=base, begin=begin, learned=learned,
        steps=work / "steps", rewards=rewards, progress=partial(progress, f"aligning by {order.how}"),
    )  # fmt: skip
    make_once(work / "trained", train)
    tuned = Tuned(**json.loads((work / "trained" / _TUNED).read_text(encoding="utf-8")))
    if order.how == "reward":
        made = _keep_reward(order, home, work / "trained", card, windows, parts, llm)
    else:
        made = _finish(
            order, knobs, home, family, begin, card, llm, work / "trained", known, calibrate,
            windows, parts, recipe, tuned,
        )  # fmt: skip
    for stale in work.parent.glob(f"{family}-????????"):  # of use only to a run that was killed
        shutil.rmtree(stale)
    return made


def render_aligned(made: Aligned) -> str:
    """What was learned from, what was left out and why, and what changed on what was held out."""
    table, parts = made.windows.table, made.parts
    lines = [
        f"{made.name}: learned from {len(parts.learned)} windows of "
        f"{parts.learned['incident'].nunique()} incidents in {table['capture'].nunique()} captures; "
        f"{len(parts.held_out)} windows held out by {parts.by}"
    ]
    lines += [f"set aside: {one}: {why}" for one, why in made.windows.set_aside.items()]
    lines += [f"note: {one}" for one in made.windows.notes]
    names = sorted({name.rpartition(".")[0] for name in made.metrics if name.endswith(".before")})
    lines += [
        f"{name.replace('_', ' ').replace('.', ': ')}: {made.metrics[f'{name}.before']:.3f} before, "
        f"{made.metrics[f'{name}.after']:.3f} after"
        for name in names
        if f"{name}.after" in made.metrics
    ]
    if parts.held_out.empty:
        lines.append(
            "fewer than four incidents: none was held out, so nothing says what it is worth"
        )
    lines += [f"warning: {one}" for one in made.warnings]
    site, _, family = made.name.partition("/")
    if made.used:
        lines.append(f"`faultwise classify CAPTURE --site {site}` uses it")
    elif made.warnings:
        lines.append(f"{site} does not use it; `faultwise adapters use {site} {family}` makes it")
    return "\n".join(lines)


# ---- What is begun with ----


def _find_begin(home: Path, site: str) -> Path:
    there = any(one.site == site for one in list_registered(home))
    return find_folder(home, site) if there else POCKET


def _check_begin(begin: Path) -> AdapterCard:
    card = check_registered(begin)
    if not (begin / "adapter_config.json").is_file():
        raise UserError(
            f"{begin} is a model that was tuned whole; expected an adapter, so that what it was can "
            "be kept beside it; tune one with `faultwise finetune sft`"
        )
    if is_seq2seq((begin / card.base).resolve()):
        raise UserError(
            f"{begin} belongs to an encoder-decoder, which no trainer of preferences takes; expected "
            "one of a causal base; tune it on `faultwise feedback export --format intervals` instead"
        )
    return card


def _family_of(begin: Path, card: AdapterCard) -> str:
    """Its name at its site; the shipped one's on its card."""
    return card.name.rpartition("/")[2] if begin != POCKET else POCKET.parent.name


def _check_free(order: Order, home: Path, family: str) -> None:
    there = [one for one in list_registered(home) if (one.site, one.family) == (order.site, family)]
    if there and not order.replace and order.how != "reward":
        raise UserError(
            f"site {order.site} has an adapter {family} already; expected another name; "
            "give --family, or --replace it"
        )


def _marks(order: Order, claims: Claims, begin: Path) -> list[str]:
    """All that the windows of feedback depend on."""
    files = [
        (str(path.relative_to(root.parent)), path.stat().st_size, path.stat().st_mtime_ns)
        for root in order.captures
        for path in ([root] if root.is_file() else sorted(root.rglob("*")))
        if path.is_file()
    ]
    data = [str(path.resolve()) for path in order.data]
    return [
        json.dumps([files, order.most, data]),
        claims.table.to_csv(index=False),
        fingerprint_weights(begin),
        prompt_fingerprint(),
    ]


def _digest(marks: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:8]


# ---- Windows: of feedback, and with known truth ----


def _check_windows(
    folder: Path,
    order: Order,
    claims: Claims,
    llm: Scorer,
    card: AdapterCard,
    plant: Plant | None,
    progress: Callable[[int, int], None],
) -> None:
    found = check_claims(claims, order.captures, llm, card, plant, order.most, progress)
    found.table.to_parquet(folder / "claimed.parquet", index=False)
    found.proved.to_parquet(folder / "proved.parquet", index=False)
    said = {"set_aside": found.set_aside, "notes": found.notes}
    write_text(folder / "said.json", json.dumps(said))


def _read_windows(folder: Path) -> Windows:
    said = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    return Windows(
        pd.read_parquet(folder / "claimed.parquet"),
        pd.read_parquet(folder / "proved.parquet"),
        said["set_aside"],
        tuple(said["notes"]),
    )


def _make_known(
    order: Order,
    card: AdapterCard,
    windows: Windows,
    recipe: Recipe,
    folder: Path,
    knobs: Knobs,
    progress: Callable[[str, int, int], None],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Windows with truth: of recorded plants to learn beside feedback, and those that the adapter
    never learned from to calibrate on."""
    about = set(windows.table["capture"])
    recorded = [name for name in list_recorded(RECORDED) if name not in about]
    held = [name for name in recorded if name in card.split.get("calibrate", ())]
    captures = find_captures(order.data, least=1) if order.data else {}
    unseen = {
        name: path for name, path in captures.items() if name not in card.data and name not in about
    }
    first = recipe.calibrate_seeds[0]
    reading = partial(progress, "reading captures with truth")
    parts = [read_recorded(RECORDED, name) for name in held]
    if unseen or order.plants:
        parts.append(make_site_texts(unseen, order.plants, recipe, folder, reading, first))
    if not parts:
        raise UserError(
            "no windows with truth to calibrate on; expected --plants above 0, or --data FOLDER with "
            f"captures that {card.name} did not learn from; give either"
        )
    rng = np.random.default_rng(knobs.seed)
    others = [name for name in recorded if name not in held]
    chosen = rng.permutation(others)[:_KNOWN_CAPTURES]
    known = pd.concat([read_recorded(RECORDED, str(name)) for name in chosen], ignore_index=True)
    return known, pd.concat(parts, ignore_index=True)


# ---- Training ----


def _train(
    folder: Path,
    order: Order,
    knobs: Knobs,
    base: Path,
    begin: Path,
    learned: pd.DataFrame,
    steps: Path,
    rewards: Sequence[Reward],
    progress: Callable[[int, int], None],
) -> None:
    steps.mkdir(parents=True, exist_ok=True)
    if order.how == "reward":
        tuned = train_reward(base, begin, learned, folder, steps, knobs, progress)
    else:
        tuned = align(base, begin, learned, folder, steps, order.how, knobs, rewards, progress)
    log.info("%s: loss %.4f after %d steps", order.how, tuned.loss, tuned.steps)
    write_text(folder / _TUNED, json.dumps(asdict(tuned)))


def _load_rewards(order: Order, home: Path, card: AdapterCard) -> Sequence[Reward]:
    if order.rewards == "checked" or order.how not in ("grpo", "rloo"):
        return CHECKED
    folder = home / "rewards" / order.site
    if not (folder / _REWARD).is_file():
        raise UserError(
            f"no reward model {folder}; expected one of this site; "
            f"train it first: `faultwise finetune align --site {order.site} --how reward`"
        )
    made_for = json.loads((folder / _REWARD).read_text(encoding="utf-8"))
    if (made_for["base"], made_for["prompts"]) != (card.base_fingerprint, prompt_fingerprint()):
        raise UserError(
            f"{folder} was trained for another base or other texts; expected those of {card.name}; "
            "train it again with --how reward"
        )
    return (RewardModel(folder),)


def _keep_reward(
    order: Order,
    home: Path,
    trained: Path,
    card: AdapterCard,
    windows: Windows,
    parts: Parts,
    llm: Scorer,
) -> Aligned:
    """Put a reward model into its place, whole, with what it is worth on held-out feedback: how
    often it prefers what the person said, beside how often the adapter's own likelihood does."""
    model = RewardModel(trained)
    metrics = {}
    for name, table in (("held_out", parts.held_out), ("learned", parts.learned)):
        pairs = choose_rivals(table[table["said"] != ""], llm) if len(table) else table
        if pairs.empty:
            continue
        said, rival = (pairs[column].map(LABELS.index).to_numpy() for column in ("said", "rival"))
        own, rows = score_texts(pairs, llm), np.arange(len(pairs))
        texts = pairs["text"].tolist()
        better = model.score(texts, pairs["said"].tolist()) > model.score(
            texts, pairs["rival"].tolist()
        )
        metrics[f"{name}.pairs_right.before"] = float((own[rows, said] > own[rows, rival]).mean())
        metrics[f"{name}.pairs_right.after"] = float(better.mean())
    made_for = {
        "base": card.base_fingerprint,
        "prompts": prompt_fingerprint(),
        "metrics": round_metrics(metrics),
        "made_by": f"faultwise finetune align --site {order.site} --how reward",
        "created": datetime.now(UTC).date().isoformat(),
    }
    place = home / "rewards" / order.site
    draft = place.with_name(f".{order.site}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(trained, draft)
    (draft / _TUNED).unlink()
    write_text(draft / _REWARD, json.dumps(made_for, indent=1) + "\n")
    if place.is_dir():
        shutil.rmtree(place)
    draft.rename(place)
    return Aligned(f"{order.site}/reward model", False, windows, parts, metrics, ())


# ---- The result ----


def _finish(
    order: Order,
    knobs: Knobs,
    home: Path,
    family: str,
    begin: Path,
    card: AdapterCard,
    before: Scorer,
    trained: Path,
    known: pd.DataFrame,
    calibrate: pd.DataFrame,
    windows: Windows,
    parts: Parts,
    recipe: Recipe,
    tuned: Tuned,
) -> Aligned:
    base = (begin / card.base).resolve()
    after = LocalLLM(base, trained)
    calibration = calibrate_model(calibrate, after, recipe)
    metrics = calibration.measures() | {"train.loss": tuned.loss}
    metrics |= _compare(before, card.bounds, after, calibration.bounds, parts, windows, calibrate)
    warnings = _find_losses(metrics, windows)
    draft = draft_folder(home, order.site, family)
    shutil.copytree(trained, draft, dirs_exist_ok=True)
    (draft / _TUNED).unlink()
    learned = tuple(sorted({*card.data, *parts.learned["capture"], *known["capture"]}))
    held_out = tuple(sorted(set(parts.held_out["capture"])))
    write_card(
        AdapterCard(
            name=f"{order.site}/{family}",
            base=relative_base(base, draft),
            base_fingerprint=card.base_fingerprint,
            prompt_fingerprint=prompt_fingerprint(),
            labels=LABELS,
            **calibration.on_card(),
            data=learned,
            split={"calibrate": tuple(sorted(set(calibrate["capture"]))), "feedback": held_out},
            seed=knobs.seed,
            metrics=round_metrics(metrics),
            made_by=f"{card.made_by}; {_command(order, knobs)}",
            created=datetime.now(UTC).date().isoformat(),
        ),
        draft,
    )
    made: Registered = register(draft, order.site, family, chosen=not warnings)
    return Aligned(made.name, made.used, windows, parts, metrics, warnings)


def _compare(
    before: Scorer,
    old: Bounds,
    after: Scorer,
    new: Bounds,
    parts: Parts,
    windows: Windows,
    calibrate: pd.DataFrame,
) -> dict[str, float]:
    """The same measures of both adapters, each by its own bounds."""
    metrics: dict[str, float] = {}
    for when, llm, bounds in (("before", before, old), ("after", after, new)):
        for name, table in (("held_out", parts.held_out), ("learned", parts.learned)):
            for measure, value in measure_feedback(table, llm, bounds).items():
                metrics[f"{name}.{measure}.{when}"] = value
        proved = _judge(windows.proved, llm, bounds)
        if len(proved):
            metrics[f"proved.alarmed.{when}"] = float((proved["label"] != NORMAL).mean())
        scores = score_texts(calibrate, llm)
        for measure, value in measure_windows(calibrate, scores, bounds).items():
            metrics[f"truth.{measure}.{when}"] = value
        alarmed = (judge_windows(calibrate, scores, bounds)["label"] != NORMAL).to_numpy()
        for label, rows in calibrate.reset_index(drop=True).groupby("label"):
            if label != NORMAL and len(rows) >= _LEAST_WINDOWS:
                metrics[f"truth.{label}.{when}"] = float(alarmed[rows.index].mean())
    return metrics


def measure_feedback(table: pd.DataFrame, llm: Scorer, bounds: Bounds) -> dict[str, float]:
    """What an adapter makes of windows of feedback.

    Args:
        table: ``text said shown``.
        llm: with the adapter.
        bounds: of its card.

    Returns:
        ``right``: the share whose verdict is what the person says (where that is open, not what was
        wrong); ``false_alarms``, of those called normal, and ``missed``, of the others, the shares
        alarmed and not; ``likelihood``, the mean calibrated probability of what the person says.
        Each only where there are such windows.
    """
    if table.empty:
        return {}
    scores = score_texts(table, llm)
    verdict = _verdicts(scores, bounds)["label"].to_numpy(object)
    said, shown = (table[name].to_numpy(object) for name in ("said", "shown"))
    open_, normal = said == "", said == NORMAL
    measures = {"right": float(np.where(open_, verdict != shown, verdict == said).mean())}
    if normal.any():
        measures["false_alarms"] = float((verdict[normal] != NORMAL).mean())
    if (~normal).any():
        measures["missed"] = float((verdict[~normal] == NORMAL).mean())
    if (~open_).any():
        probabilities = make_probabilities(scores, bounds.temperature)
        codes = [LABELS.index(label) for label in said[~open_]]
        measures["likelihood"] = float(probabilities[np.flatnonzero(~open_), codes].mean())
    return measures


def _judge(table: pd.DataFrame, llm: Scorer, bounds: Bounds) -> pd.DataFrame:
    if table.empty:
        return pd.DataFrame({"label": []})
    return _verdicts(score_texts(table, llm), bounds)


def _verdicts(scores: np.ndarray, bounds: Bounds) -> pd.DataFrame:
    """Verdicts on windows alone: what their device did minutes before is not known here."""
    return decide(make_probabilities(scores, bounds.temperature, bounds.prior_shift), bounds)


def _find_losses(metrics: dict[str, float], windows: Windows) -> tuple[str, ...]:
    """Why the site goes on with its own adapter."""

    def lost(name: str) -> float:
        return metrics.get(f"{name}.before", 0.0) - metrics.get(f"{name}.after", 0.0)

    found = []
    if lost("proved.alarmed") > _ALLOWED:
        found.append(
            f"of {len(windows.proved)} windows whose cause is proved it alarms "
            f"{metrics['proved.alarmed.after']:.0%} instead of {metrics['proved.alarmed.before']:.0%}: "
            "feedback must not silence what packets prove"
        )
    if lost("truth.recall") > _ALLOWED:
        found.append(
            f"of anomalous windows with known truth it alarms {metrics['truth.recall.after']:.0%} "
            f"instead of {metrics['truth.recall.before']:.0%}"
        )
    silenced = [
        label for label in LABELS if label != NORMAL and lost(f"truth.{label}") > _LABEL_ALLOWED
    ]
    if silenced:
        found.append(f"it finds far less {', '.join(silenced)} than before")
    if lost("held_out.right") > 0:
        found.append("it is right less often on the feedback that was held out")
    return tuple(found)


def _command(order: Order, knobs: Knobs) -> str:
    """The command that made it, without a path of this machine."""
    words = [f"faultwise finetune align --site {order.site} --how {order.how} --capture PATH..."]
    usual, plain = Knobs(), Order(order.site, order.captures)
    for name in ("epochs", "batch", "learning_rate", "beta", "samples", "seed"):
        if getattr(knobs, name) != getattr(usual, name):
            words.append(f"--{name.replace('_', '-')} {getattr(knobs, name)}")
    for name in ("plants", "most", "known", "rewards"):
        if getattr(order, name) != getattr(plain, name):
            words.append(f"--{name} {getattr(order, name)}")
    words += ["--feedback FILE"] * bool(order.feedback) + ["--data FOLDER"] * bool(order.data)
    return " ".join(words)

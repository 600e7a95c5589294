"""Fit a site's alarms to its own quiet time: `faultwise finetune refresh --quiet PATH --site NAME`.

Another plant's normal looks odd to a model that never saw it. From windows in which nothing was
wrong the bound of P(anomalous) is taken that a share of such windows exceeds, one for each role
(`assistant.llm.calibration.fit_role_bounds`). The weights stay. What was usual is kept beside them,
so that a capture that no longer looks so is noticed (`assistant.detection.drift`). A bound is never below the card's
own: a quiet hour proves nothing about attacks.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assistant.detection.drift import USUAL, write_usual
from assistant.detection.pipeline import Analysis, analyse
from assistant.llm.adapters import AdapterCard, write_card
from assistant.llm.calibration import fit_role_bounds
from assistant.registry import (
    Registered,
    check_name,
    draft_folder,
    find_in_use,
    load_registered,
    register,
)
from finetune.sites.cards import relative_base, today
from traffic.errors import UserError
from traffic.labels import NORMAL
from traffic.plant import Plant

FAMILY = "quiet"
# On plants of a quarter of an hour, bounds from one half saved no false alarm in the other and cost
# eight points of the anomalies.
LEAST_S = 1200.0
_THEN = "; faultwise finetune refresh"
_MUTE = 0.99  # a bound above this leaves a role to the rules
_NEAR_S = 600.0  # what comes before and after an incident is no usual time either
_SUSPICIOUS = 0.5  # of a device's windows alarmed: rather an infected device than a new normal


@dataclass(frozen=True)
class Quieted:
    """What a quiet time gave.

    Attributes:
        adapter: the site's, with the bounds on its card.
        bounds: by role; "" for devices of other roles.
        windows: quiet windows of each role.
        before: share of each role's windows that the card's own bound would have alarmed.
        left_out: devices whose time was not all quiet, with the reason.
    """

    adapter: Registered
    bounds: dict[str, float]
    windows: dict[str, int]
    before: dict[str, float]
    left_out: dict[str, str]


def refresh_from_quiet(
    path: Path,
    site: str,
    home: Path,
    plant: Plant | None,
    false_share: float,
    progress: Callable[[int, int], None] | None = None,
) -> Quieted:
    """Give a site's adapter the bounds of its quiet time; the site uses it from then on.

    Args:
        path: a capture in which nothing was wrong.
        site: whose adapter; one that has none gets the shipped one.
        home: the folder of state.
        plant: tells the devices' roles; without it all have one bound.
        false_share: of quiet windows, those that may be alarmed.
        progress: called while windows are scored.

    Raises:
        UserError: the capture is not quiet, or too short to tell.
    """
    check_name(site, "site")
    source = find_in_use(home, site)
    llm, card = load_registered(source)
    # Bounds of an earlier quiet time must not hide what the model thinks now.
    bare = card.model_copy(update={"role_thresholds": {}})
    analysis = analyse(path, llm, bare, plant, (), progress)
    if analysis.view.seen_s < LEAST_S:
        raise UserError(
            f"{path} lasts {analysis.view.seen_s / 60:.0f} minutes; expected {LEAST_S / 60:.0f} or more, "
            "an hour is better; a few minutes do not tell what is usual"
        )
    troubled, left_out = _find_troubled(analysis)
    table = _read_odd(analysis, plant, troubled)
    bounds = fit_role_bounds(
        table["odd"].to_numpy(), table["role"].to_numpy(str), card.threshold, false_share
    )
    if "" not in bounds:
        others = "; ".join(f"{device} is left out: {why}" for device, why in left_out.items())
        raise UserError(
            f"{path} holds {len(table)} windows in which nothing was wrong{f' ({others})' if others else ''}; "
            f"expected {math.ceil(1 / false_share)} or more; record for longer, or at a quieter time, or "
            "label it and tune an adapter (`faultwise finetune sft`)"
        )
    named = table[table["role"].isin(list(bounds))]
    quiet = analysis.verdicts[~troubled]
    adapter = _register(source, site, home, bare, bounds, path, quiet)
    return Quieted(
        adapter=adapter,
        bounds=bounds,
        windows={str(k): int(n) for k, n in named["role"].value_counts().items()}
        | {"": len(table)},
        before={str(k): float(v) for k, v in _alarmed_shares(table, card.threshold).items()},
        left_out=left_out,
    )


def render_quieted(made: Quieted) -> str:
    """What the quiet time changed, a line a role, with what it costs."""
    lines = [f"{made.adapter.name}: site {made.adapter.site} uses it"]
    for role, bound in made.bounds.items():
        name = role or "all other devices"
        lines.append(
            f"{name}: alarmed from {bound:.3f} on ({made.windows[role]} quiet windows; "
            f"{made.before.get(role, 0.0):.1%} of them were alarmed before)"
        )
        if bound > _MUTE:
            lines.append(
                f"warning: of {name} the model says next to nothing with that bound; what packets "
                "prove is still found"
            )
    lines += [f"left out: {device}: {why}" for device, why in made.left_out.items()]
    return "\n".join(lines)


def _find_troubled(analysis: Analysis) -> tuple[np.ndarray, dict[str, str]]:
    """Windows that must not set what is normal, shape (n_windows,), bool, and why, by device: those
    near an incident, and all of a device that looks odd most of the time."""
    verdicts, name = analysis.verdicts, analysis.view.name_of
    device = verdicts["device"].to_numpy(object)
    start_s, end_s = (verdicts[column].to_numpy(float) for column in ("start_s", "end_s"))
    troubled = np.zeros(len(verdicts), bool)
    why: dict[str, str] = {}
    for one in analysis.incidents:
        near = (end_s > one.start_s - _NEAR_S) & (start_s < one.end_s + _NEAR_S)
        for end in (one.device, *one.related):
            troubled |= near & (device == end)
            said = one.facts[0].text if one.facts else one.id
            why.setdefault(name(end), f"the time around an incident, {one.label}: {said}")
    odd = (verdicts["label"] != NORMAL) & ~troubled
    for address, share in odd.groupby(verdicts["device"]).mean().items():
        if share > _SUSPICIOUS:
            troubled |= device == address
            why[name(str(address))] = f"{share:.0%} of its windows look odd to the model"
    return troubled, why


def _read_odd(analysis: Analysis, plant: Plant | None, troubled: np.ndarray) -> pd.DataFrame:
    """``role odd`` of the quiet windows."""
    roles = {one.address: one.role for one in plant.devices} if plant else {}
    verdicts = analysis.verdicts
    return pd.DataFrame(
        {
            "role": verdicts["device"].map(lambda one: roles.get(one, "")).astype(str),
            "odd": 1.0 - verdicts[f"p_{NORMAL}"].astype(float),
        }
    )[~troubled].reset_index(drop=True)


def _alarmed_shares(table: pd.DataFrame, usual: float) -> pd.Series:
    alarmed = table["odd"] >= usual
    shares = alarmed.groupby(table["role"]).mean()
    return pd.concat([shares.drop("", errors="ignore"), pd.Series({"": alarmed.mean()})])


def _register(
    source: Path,
    site: str,
    home: Path,
    card: AdapterCard,
    bounds: dict[str, float],
    quiet: Path,
    verdicts: pd.DataFrame,
) -> Registered:
    """A copy of the adapter under the site, with the bounds on its card and beside it what was
    usual, by which drift is noticed."""
    draft = draft_folder(home, site, FAMILY)
    shutil.copytree(source, draft, dirs_exist_ok=True)
    whole = (source / "base").is_dir()
    base = card.base if whole else relative_base(card.find_base(source), draft)
    write_card(
        card.model_copy(
            update={
                "name": f"{site}/{FAMILY}",
                "base": base,
                "role_thresholds": bounds,
                "split": {**card.split, "quiet": (quiet.name,)},
                "made_by": f"{card.made_by.split(_THEN)[0]}{_THEN} --quiet {quiet.name} --site {site}",
                "created": today(),
            }
        ),
        draft,
    )
    (draft / USUAL).unlink(missing_ok=True)
    write_usual(verdicts, draft)
    return register(draft, site, FAMILY)

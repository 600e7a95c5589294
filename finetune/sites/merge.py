"""Merge adapters of one base into one, or an adapter into its base: `faultwise adapters merge`.

    cat    W + w1 B1 A1 + w2 B2 A2 exactly, ranks add up (peft's add_weighted_adapter)
    svd    the nearest product of the largest of their ranks: as small as one, no longer exact

The average of the A's and of the B's, each for itself, would be neither adapter nor their mean. What
comes out judges by numbers that nobody calibrated, so it is calibrated anew on captures that none
of its parts learned from. One adapter alone goes into its base, and keeps its card's numbers.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd
import torch
from peft import PeftModel

from assistant.llm.adapters import AdapterCard, write_card
from assistant.llm.weights import fingerprint_weights
from assistant.registry import (
    Registered,
    check_name,
    check_single,
    draft_folder,
    find_registered,
    list_registered,
    load_registered,
    register,
)
from finetune.bases import load_trainable
from finetune.calibrate import calibrate_model
from finetune.recipe import read_recipe
from finetune.sites.captures import find_captures, make_site_texts
from finetune.sites.cards import relative_base, round_metrics, today
from traffic.errors import UserError

How = Literal["cat", "svd"]


def merge(
    home: Path,
    names: Sequence[str],
    site: str,
    family: str,
    how: How = "cat",
    weights: Sequence[float] = (),
    data: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Registered:
    """Merge adapters and register the result; its site does not use it until it chooses it.

    Args:
        home: the folder of state.
        names: SITE/FAMILY of each; a single one is merged into its base.
        site: whose the result is.
        family: its name there.
        how: exactly, or as small as its largest part.
        weights: of each, by default equal and 1 together.
        data: labelled captures to calibrate on; needed for several.
        progress: of the reading of captures.

    Raises:
        UserError: an adapter is missing, changed, no plain LoRA or of another base, the name is
            taken, or no capture is left that none of them learned from.
    """
    check_name(site, "site")
    check_name(family, "family")
    if any((one.site, one.family) == (site, family) for one in list_registered(home)):
        raise UserError(
            f"site {site} has an adapter {family} already; expected a new name; choose another --family"
        )
    parts = [find_registered(home, name) for name in names]
    cards = [check_single(part.path) for part in parts]
    _check_parts(parts, cards)
    base = cards[0].find_base(parts[0].path)
    if len(parts) == 1:
        return _merge_into_base(home, parts[0], cards[0], base, site, family)

    shares = list(weights) or [1 / len(parts)] * len(parts)
    if len(shares) != len(parts):
        raise UserError(
            f"{len(shares)} weights for {len(parts)} adapters; expected one each; correct --weights"
        )
    if not data:
        raise UserError(
            "no captures to calibrate the merged adapter on; expected --data FOLDER; give labelled captures"
        )
    unseen = _find_unseen(cards, data)
    with TemporaryDirectory(prefix="faultwise-") as scratch:
        texts = make_site_texts(unseen, 0, read_recipe(), Path(scratch), progress)
    draft = draft_folder(home, site, family)
    _write_merged(parts, base, draft, how, shares)
    made_by = f"faultwise adapters merge {' '.join(names)} --how {how} --data FOLDER"
    named = {"name": f"{site}/{family}", "base": relative_base(base, draft), "made_by": made_by}
    _write_card(draft, cards, named, texts)
    return register(draft, site, family, chosen=False)


def _find_unseen(cards: Sequence[AdapterCard], data: Sequence[Path]) -> dict[str, Path]:
    """The captures that none of the adapters learned from."""
    learned = {name for card in cards for name in card.data}
    captures = find_captures(data, least=1)
    unseen = {name: path for name, path in captures.items() if name not in learned}
    if not unseen:
        raise UserError(
            f"every capture of {', '.join(map(str, data))} was learned from by one of them; "
            "expected one that none has seen; record another"
        )
    return unseen


def _write_card(
    draft: Path, cards: Sequence[AdapterCard], named: dict[str, str], texts: pd.DataFrame
) -> None:
    """Calibrate merged weights on texts that none of the parts learned from."""
    # Loaded as it will be served, so first with a card that has nothing to say yet.
    write_card(cards[0].model_copy(update=named), draft)
    llm, card = load_registered(draft)
    found = calibrate_model(texts, llm, read_recipe())
    changed = {
        **found.on_card(),
        "data": tuple(sorted({name for one in cards for name in one.data})),
        "split": {"calibrate": tuple(sorted(set(texts["capture"])))},
        "seed": 0,
        "metrics": round_metrics(found.measures()),
        "created": today(),
    }
    write_card(card.model_copy(update=changed), draft)


def _check_parts(parts: Sequence[Registered], cards: Sequence[AdapterCard]) -> None:
    for part, card in zip(parts, cards, strict=True):
        config = part.path / "adapter_config.json"
        if not config.is_file():
            raise UserError(
                f"{part.name} is a model that was tuned whole; expected an adapter; leave it out"
            )
        if len(parts) > 1 and json.loads(config.read_text(encoding="utf-8")).get("use_dora"):
            raise UserError(
                f"{part.name} was made by --method dora, which does not add up; "
                "expected lora or qlora; tune it anew"
            )
        if card.base_fingerprint != cards[0].base_fingerprint:
            raise UserError(
                f"{part.name} and {parts[0].name} have different bases; expected one base; tune both on one"
            )
    if len({part.path for part in parts}) < len(parts):
        raise UserError("an adapter is named twice; expected each once; give its weight instead")


def _write_merged(
    parts: Sequence[Registered], base: Path, out: Path, how: How, weights: Sequence[float]
) -> None:
    model: Any = load_trainable(base, "full").model
    tuned = PeftModel.from_pretrained(model, parts[0].path, "part0", local_files_only=True)
    for number, part in enumerate(parts[1:], start=1):
        tuned.load_adapter(part.path, f"part{number}")
    named = [f"part{number}" for number in range(len(parts))]
    rank = max(tuned.peft_config[name].r for name in named)
    options = {"svd_rank": rank} if how == "svd" else {}
    tuned.add_weighted_adapter(named, list(weights), "merged", combination_type=how, **options)
    tuned.peft_config["merged"].base_model_name_or_path = base.name
    tuned.save_pretrained(out, selected_adapters=["merged"], save_embedding_layers=False)
    for file in (out / "merged").iterdir():  # peft's folder for an adapter that has a name
        file.rename(out / file.name)
    (out / "merged").rmdir()
    (out / "README.md").unlink(missing_ok=True)


def fold(base: Path, adapter: Path, out: Path) -> None:
    """Write a base with an adapter in it: a model of its own, in bf16."""
    loaded = load_trainable(base, "full")
    tuned = PeftModel.from_pretrained(loaded.model, adapter, local_files_only=True)
    tuned.merge_and_unload().to(torch.bfloat16).save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)


def _merge_into_base(
    home: Path, part: Registered, card: AdapterCard, base: Path, site: str, family: str
) -> Registered:
    draft = draft_folder(home, site, family)
    fold(base, part.path, draft / "base")
    changed = {
        "name": f"{site}/{family}",
        "base": "base",
        "base_fingerprint": fingerprint_weights(draft / "base"),
        "begun_from": card.base_fingerprint,
        "made_by": f"faultwise adapters merge {part.name}",
    }
    write_card(card.model_copy(update=changed), draft)
    return register(draft, site, family, chosen=False)

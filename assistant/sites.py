"""Captures of several sites judged together, each by the adapter that its site uses.

A machine that watches many plants has a few windows of each at a time. Adapters over one base share
its batches (`assistant.llm.stacked`); whatever cannot, as a model that was tuned whole, is read
alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from assistant.detection.classify import judge_scores, make_prompts
from assistant.llm.adapters import AdapterCard
from assistant.llm.local import Progress
from assistant.llm.many import ManyLLM, can_stack
from assistant.llm.remembered import Scorer
from assistant.registry import check_registered, find_folder, load_registered
from assistant.session import Judged, Reading, open_windows
from assistant.settings import Settings
from prompts.messages import ANSWERS, classification_prompt
from prompts.window_text import render_windows
from traffic.errors import UserError
from traffic.labels import LABELS
from traffic.windows import Windows

_CHOICES = [ANSWERS[label] for label in LABELS]


@dataclass(frozen=True)
class Stacked:
    """A base that serves several sites, and the number of each site's adapter in it."""

    llm: ManyLLM
    numbers: Mapping[str, int]


@dataclass(frozen=True)
class SiteModels:
    """What several sites use.

    Attributes:
        cards: of each site's adapter.
        stacked: bases that serve several of them.
        alone: models of the others.
    """

    cards: Mapping[str, AdapterCard]
    stacked: tuple[Stacked, ...]
    alone: Mapping[str, Scorer]


def load_sites(home: Path, sites: Sequence[str]) -> SiteModels:
    """Load what sites use, each base and each adapter once.

    Args:
        home: the folder of state.
        sites: SITE, or SITE/FAMILY, of each.

    Raises:
        UserError: a site has no adapter, or one does not fit this release or its base.
    """
    folders = {site: find_folder(home, site) for site in dict.fromkeys(sites)}
    cards = {folder: check_registered(folder) for folder in folders.values()}
    over: dict[str, list[Path]] = {}
    for folder, card in cards.items():
        if can_stack(card.find_base(folder), folder):
            over.setdefault(card.base_fingerprint, []).append(folder)
    stacked = []
    for adapters in over.values():
        if len(adapters) > 1:
            llm = ManyLLM(cards[adapters[0]].find_base(adapters[0]), adapters)
            numbers = {
                site: adapters.index(folder)
                for site, folder in folders.items()
                if folder in adapters
            }
            stacked.append(Stacked(llm, numbers))
    served = {site for one in stacked for site in one.numbers}
    loaded = {
        folder: load_registered(folder)[0]
        for folder in {folder for site, folder in folders.items() if site not in served}
    }
    return SiteModels(
        cards={site: cards[folder] for site, folder in folders.items()},
        stacked=tuple(stacked),
        alone={site: loaded[folder] for site, folder in folders.items() if site not in served},
    )


def score_sites(
    texts: Sequence[str], sites: Sequence[str], models: SiteModels, progress: Progress | None = None
) -> np.ndarray:
    """Score windows of several sites.

    Args:
        texts: of n windows.
        sites: whose each is, one of ``models.cards``.
        models: from `load_sites`.
        progress: called while those are scored that share a base.

    Returns:
        Shape (n, len(LABELS)), natural log-probabilities; rows sum to 1. Each row is what its
        site's adapter gives alone, to what bf16 rounds.
    """
    scores = np.empty((len(texts), len(LABELS)), np.float32)
    whose = np.array(sites, object)
    for one in models.stacked:
        rows = np.flatnonzero(np.isin(whose, list(one.numbers)))
        prompts = [classification_prompt(texts[row]) for row in rows.tolist()]
        which = [one.numbers[site] for site in whose[rows]]
        scores[rows] = one.llm.score(prompts, which, _CHOICES, progress)
    for site, llm in models.alone.items():
        rows = np.flatnonzero(whose == site)
        scores[rows] = llm.score(make_prompts([texts[row] for row in rows.tolist()], llm), _CHOICES)
    return scores


def classify_sites(
    windows: Mapping[str, Windows], models: SiteModels, progress: Progress | None
) -> dict[str, pd.DataFrame]:
    """Verdicts on windows of several sites, as `assistant.detection.classify.classify` gives them
    for one."""
    texts = {site: render_windows(some) for site, some in windows.items()}
    sites = [site for site, some in texts.items() for _ in some]
    scores = score_sites(list(chain(*texts.values())), sites, models, progress)
    ends = np.cumsum([len(some) for some in texts.values()])
    parts = np.split(scores, ends[:-1])
    return {
        site: judge_scores(some, part, models.cards[site])
        for (site, some), part in zip(windows.items(), parts, strict=True)
    }


def parse_captures(words: Sequence[str], settings: Settings) -> dict[str, Path]:
    """The captures of ``SITE=PATH`` words by site; none where the words are one plain path.

    Raises:
        UserError: several words and one is no SITE=PATH, a site comes twice, or an option is given
            that is of one site.
    """
    if len(words) == 1 and ("=" not in words[0] or Path(words[0]).exists()):
        return {}
    captures: dict[str, Path] = {}
    for word in words:
        site, is_pair, path = word.partition("=")
        if not (site and is_pair and path):
            raise UserError(
                f"{word} names no site; expected SITE=PATH where there are several captures; "
                "give the site, or one capture"
            )
        if site in captures:
            raise UserError(
                f"site {site} is named twice; expected one capture a site; "
                "put its captures into a folder"
            )
        captures[site] = Path(path)
    for name in ("site", "model", "plant"):
        if value := getattr(settings, name):
            raise UserError(
                f"{name} {value} is of one site; expected none beside SITE=PATH; leave it out"
            )
    return captures


@contextmanager
def open_site_verdicts(
    captures: Mapping[str, Path], settings: Settings, progress: Progress | None
) -> Iterator[Judged]:
    """Read and classify captures of several sites; a ``site`` stands first in every table.

    Of captures larger than memory a share of each is looked at after the other.
    """
    models = load_sites(settings.home, list(captures))
    with ExitStack() as stack:
        readings = {
            site: stack.enter_context(open_windows(path, settings))
            for site, path in captures.items()
        }
        notes = tuple(
            f"{site}: {note}" for site, reading in readings.items() for note in reading.notes
        )
        yield Judged(notes, _each_round(readings, models, progress))


def _each_round(
    readings: Mapping[str, Reading], models: SiteModels, progress: Progress | None
) -> Iterator[pd.DataFrame]:
    for shares in zip_longest(*(reading.windows for reading in readings.values())):
        windows = {
            site: share for site, share in zip(readings, shares, strict=True) if share is not None
        }
        for site, verdicts in classify_sites(windows, models, progress).items():
            verdicts.insert(0, "site", site)
            yield verdicts

"""Open what a command needs: plant, capture, models, knowledge base, history.

Everything here fails at once and says the path, so that nobody learns at the first question that a
file is missing.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from assistant import detection
from assistant.detection import Analysis
from assistant.detection.classify import classify
from assistant.detection.drift import Drift, find_drift, read_usual, render_drift
from assistant.facts.traffic_view import TrafficView
from assistant.history import History
from assistant.llm.adapters import AdapterCard
from assistant.llm.local import LocalLLM, Progress
from assistant.llm.remembered import RememberedScores, Scorer
from assistant.llm.remote import RemoteLLM
from assistant.outcomes import keep_outcomes
from assistant.registry import find_folder, load_registered
from assistant.settings import Settings
from knowledge_base.embeddings import SentenceEmbedder
from knowledge_base.index import Index, ensure_samples, open_index
from knowledge_base.published import connect, open_published
from traffic.capture import SAMPLE_S, Capture
from traffic.device_logs.gather import gather_records, parse_source
from traffic.device_view import Share, select_share
from traffic.errors import UserError
from traffic.plant import Plant, load_plant
from traffic.reader import find_pcaps, is_large, read_capture
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows
from traffic.zeek.shares import cut_log, map_shares, share_windows


@dataclass(frozen=True)
class Models:
    """The model that classifies, the card that calibrates it, and the model that words answers, if
    there is one."""

    llm: Scorer
    card: AdapterCard
    writer: LocalLLM | RemoteLLM | None


def read_plant(settings: Settings) -> Plant | None:
    """The inventory the settings name, or none."""
    return load_plant(settings.plant) if settings.plant else None


@dataclass(frozen=True)
class Reading:
    """A capture's windows before any model has seen them: all at once, or a share of the devices
    after the other, each in memory once."""

    notes: tuple[str, ...]
    windows: Iterator[Windows]


@contextmanager
def open_windows(path: Path, settings: Settings, large: bool | None = None) -> Iterator[Reading]:
    """Read a capture and cut it into windows.

    Args:
        path: as ``traffic.reader.read_capture`` has it.
        settings: names the plant and further local networks.
        large: whether to look at a share of the devices after the other; by default where the
            capture is larger than memory should hold. Its parts lie in a folder that is gone
            afterwards, beside the state.
    """
    plant, local = read_plant(settings), settings.local
    if not (is_large(path) if large is None else large):
        capture = read_capture(path)
        windows = make_windows(make_samples(capture, plant, local))
        yield Reading(capture.notes, iter([windows]))
        return
    scratch = settings.home if settings.home.is_dir() else None
    if find_pcaps(path):
        capture = read_capture(path, scratch, whole=False)
        yield Reading(capture.notes, _each_share(capture, plant, local))
        return
    with TemporaryDirectory(prefix="faultwise-", dir=scratch) as folder:
        shares = cut_log(path, Path(folder), plant, local)
        make = partial(share_windows, shares=shares, plant=plant, local=local)
        yield Reading(shares.notes, map_shares(make, shares))


# Slots of flows of a share: each may become a sample of half a kilobyte.
_SHARE_ACTIVITY = 500_000


def _each_share(capture: Capture, plant: Plant | None, local: tuple[str, ...]) -> Iterator[Windows]:
    """The windows of a share of a capture's devices after the other."""
    of = max(2, -(-len(capture.activity) // _SHARE_ACTIVITY))
    end_slot = round(capture.end_s / SAMPLE_S) - 1
    for number in range(of):
        share = Share(number, of, end_slot)
        samples = make_samples(select_share(capture, share), plant, local, share)
        if len(samples):
            yield make_windows(samples)


def read_view(path: Path, settings: Settings) -> TrafficView:
    """A capture laid out for questions that need no model."""
    plant, capture = read_plant(settings), read_capture(path)
    return TrafficView(capture, make_samples(capture, plant, settings.local), plant)


def load_models(settings: Settings) -> Models:
    """Load the classifying model with its adapter, and whatever words the answers.

    Raises:
        UserError: a folder is missing or incomplete, or its parts do not fit together; the path is
            said.
    """
    llm, card = load_registered(find_adapter(settings), settings.model)
    writer = _load_writer(settings, llm)
    if writer is not None:
        writer.free_prose = settings.free_prose
    return Models(llm, card, writer)


def find_adapter(settings: Settings) -> Path:
    """The folder of the adapter that classifies: the site's, where one is named.

    Raises:
        UserError: the site has none, or none of this name.
    """
    return find_folder(settings.home, settings.site) if settings.site else settings.adapter


def _load_writer(settings: Settings, classifier: Scorer) -> LocalLLM | RemoteLLM | None:
    if settings.remote_url:
        return RemoteLLM(settings.remote_url, settings.remote_model or "default")
    if settings.remote_model:
        raise UserError(
            f"--writer-model {settings.remote_model} names a server's model, but no server is named; "
            "expected --model-url URL as well; a model on disk is --writer FOLDER"
        )
    own = classifier if isinstance(classifier, LocalLLM) else None
    writer = LocalLLM(settings.writer) if settings.writer else own
    if settings.writer and writer is not None and not writer.chat_capable:
        raise UserError(
            f"{settings.writer} has no chat template; expected an instruct model that can word answers; "
            "name another with --writer, or none"
        )
    return writer if writer is not None and writer.chat_capable else None


def analyse(
    path: Path,
    settings: Settings,
    models: Models,
    progress: Progress | None = None,
    records: bool = True,
) -> Analysis:
    """Read, classify and group a capture, with the logs and readings of its devices where
    ``records``: no verdict or incident needs them, answers do."""
    scratch = settings.home if settings.home.is_dir() else None
    plant, capture = read_plant(settings), read_capture(path, scratch)
    if records:
        capture = _add_records(capture, path, plant, settings)
    analysis = detection.analyse_capture(
        capture, models.llm, models.card, plant, settings.local, progress
    )
    drift = find_site_drift(analysis, settings)
    return analysis if drift is None else _note(analysis, drift)


def find_site_drift(analysis: Analysis, settings: Settings) -> Drift | None:
    """Since when a capture looks other than the quiet time of the site, where that is known."""
    return find_drift(analysis.verdicts, read_usual(find_adapter(settings)))


def _note(analysis: Analysis, drift: Drift) -> Analysis:
    said = render_drift(drift, [analysis.view.name_of(one) for one in drift.devices])
    notes = (*analysis.capture.notes, said)
    return replace(analysis, capture=replace(analysis.capture, notes=notes))


def watch_site(path: Path, settings: Settings, progress: Progress | None = None) -> str:
    """Whether a capture of a site still looks as its quiet time did, in a sentence.

    Raises:
        UserError: the site has no quiet time to compare with, or the capture cannot be read.
    """
    if not read_usual(find_adapter(settings)):
        raise UserError(
            f"what site {settings.site} uses knows no quiet time; expected one to compare with; first "
            f"`faultwise finetune refresh --quiet PATH --site {settings.site}`"
        )
    analysis = analyse(path, settings, load_models(settings), progress, records=False)
    drift = find_site_drift(analysis, settings)
    if drift is not None:
        return render_drift(drift, [analysis.view.name_of(one) for one in drift.devices])
    return (
        f"{path}: nothing says that the windows of site {settings.site} look unlike its quiet time"
    )


def _add_records(capture: Capture, path: Path, plant: Plant | None, settings: Settings) -> Capture:
    records = gather_records(
        capture,
        plant,
        logs=[parse_source(text) for text in settings.logs],
        readings=[parse_source(text) for text in settings.readings],
        beside=path if path.is_dir() else None,
    )
    return replace(capture, records=records, notes=(*capture.notes, *records.notes))


@dataclass(frozen=True)
class Judged:
    """Verdicts on a capture's windows, all at once or a share of the devices after the other."""

    notes: tuple[str, ...]
    verdicts: Iterator[pd.DataFrame]


@contextmanager
def open_verdicts(
    path: Path,
    settings: Settings,
    models: Models,
    progress: Progress | None = None,
    large: bool | None = None,
) -> Iterator[Judged]:
    """Read and classify a capture; ``large`` as ``open_windows`` has it.

    Equal texts are scored once over all shares.
    """
    if not (is_large(path) if large is None else large):
        analysis = analyse(path, settings, models, progress, records=False)
        yield Judged(analysis.capture.notes, iter([analysis.verdicts]))
        return
    scorer = RememberedScores(models.llm)
    plant = read_plant(settings)
    with open_windows(path, settings, large=True) as reading:
        tables = (
            classify(windows, scorer, models.card, plant=plant) for windows in reading.windows
        )
        yield Judged(reading.notes, tables)


def open_knowledge(settings: Settings, progress: Callable[[int, int], None] | None = None) -> Index:
    """The knowledge base of this home, with the shipped manuals and incidents where it is new; or
    the published one that ``settings.published`` names.

    Raises:
        UserError: another process owns it, ``settings.embedder`` holds no sentence model, or nothing
            is published there.
    """
    embedder = SentenceEmbedder(settings.embedder) if settings.embedder else None
    if url := settings.published:
        client = connect(url, settings.published_key)
        return open_published(client, url, embedder, settings.examples)
    index = open_index(settings.home, embedder, settings.examples)
    ensure_samples(index, progress)
    return index


@dataclass(frozen=True)
class Session:
    """What one running assistant shares between its conversations."""

    settings: Settings
    models: Models
    index: Index
    history: History

    def analyse(self, path: Path, progress: Progress | None = None) -> Analysis:
        """Read, classify and group a capture with the models of the session."""
        return analyse(path, self.settings, self.models, progress)


@contextmanager
def open_session(settings: Settings) -> Iterator[Session]:
    """Open everything a conversation needs, and close it again."""
    models = load_models(settings)
    with (
        open_knowledge(settings) as index,
        closing(History(settings.home / "history.sqlite")) as history,
    ):
        keep_outcomes(history, index)
        yield Session(settings, models, index, history)

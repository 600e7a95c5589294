"""Open what a command needs: plant, capture, models, knowledge base, history.

Everything here fails at once and says the path, so that nobody learns at the first question that a
file is missing.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from assistant import detection
from assistant.detection import Analysis
from assistant.history import History
from assistant.llm.adapters import AdapterCard, load_adapter
from assistant.llm.local import LocalLLM, Progress
from assistant.llm.remote import RemoteLLM
from assistant.settings import Settings
from knowledge_base.index import Index, ensure_samples, open_index
from traffic.capture import Capture
from traffic.errors import UserError
from traffic.plant import Plant, load_plant
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.windows import Windows, make_windows


@dataclass(frozen=True)
class Models:
    """The model that classifies, the card that calibrates it, and the model that words answers, if
    there is one."""

    llm: LocalLLM
    card: AdapterCard
    writer: LocalLLM | RemoteLLM | None


def read_plant(settings: Settings) -> Plant | None:
    """The inventory the settings name, or none."""
    return load_plant(settings.plant) if settings.plant else None


@dataclass(frozen=True)
class Reading:
    """A capture and its windows, before any model has seen them."""

    capture: Capture
    windows: Windows


def read_windows(path: Path, settings: Settings) -> Reading:
    """Read a capture and cut it into windows."""
    capture = read_capture(path)
    samples = make_samples(capture, read_plant(settings), settings.local)
    return Reading(capture, make_windows(samples))


def load_models(settings: Settings) -> Models:
    """Load the classifying model with its adapter, and whatever words the answers.

    Raises:
        UserError: a folder is missing or incomplete, or its parts do not fit together; the path is
            said.
    """
    llm, card = load_adapter(settings.adapter, settings.model)
    return Models(llm, card, _load_writer(settings, llm))


def _load_writer(settings: Settings, classifier: LocalLLM) -> LocalLLM | RemoteLLM | None:
    if settings.remote_url:
        return RemoteLLM(settings.remote_url, settings.remote_model or "default")
    if settings.remote_model:
        raise UserError(
            f"--writer-model {settings.remote_model} names a server's model, but no server is named; "
            "expected --model-url URL as well; a model on disk is --writer FOLDER"
        )
    writer = LocalLLM(settings.writer) if settings.writer else classifier
    if settings.writer and not writer.chat_capable:
        raise UserError(
            f"{settings.writer} has no chat template; expected an instruct model that can word answers; "
            "name another with --writer, or none"
        )
    return writer if writer.chat_capable else None


def analyse(
    path: Path, settings: Settings, models: Models, progress: Progress | None = None
) -> Analysis:
    """Read, classify and group a capture."""
    plant = read_plant(settings)
    return detection.analyse(path, models.llm, models.card, plant, settings.local, progress)


def open_knowledge(settings: Settings, progress: Callable[[int, int], None] | None = None) -> Index:
    """The knowledge base of this home, with the shipped manuals and incidents where it is new.

    Raises:
        UserError: another process owns it.
    """
    index = open_index(settings.home)
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
        yield Session(settings, models, index, history)

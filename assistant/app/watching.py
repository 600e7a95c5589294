"""Begin to watch beside the page: the source is opened first, then the monitor in its thread."""

from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock

from assistant.app.live import Live
from assistant.monitor.open import open_source
from assistant.monitor.source import Source
from assistant.monitor.watch import Monitor
from assistant.monitor.watched import Bounds, Watched
from assistant.session import Session
from assistant.settings import Settings
from traffic.errors import UserError
from traffic.files import own_folder
from traffic.plant import Plant


@dataclass(frozen=True)
class Opened:
    """A source that is open, the folder of its state, and the lock on that."""

    source: Source
    name: str
    folder: Path
    lock: BaseFileLock


def open_watched(
    settings: Settings,
    zeek_dir: Path | None,
    interface: str | None,
    replay: Path | None,
    speed: float,
    user: str,
    capture: Path | None,
    anew: bool,
) -> Opened | None:
    """The source that is named; None where none is.

    Args:
        settings: name the home, whose ``monitor`` folder holds the state.
        zeek_dir, interface, replay: at most one of them.
        speed: of a replay.
        user: whom root becomes once an interface is open.
        capture: shown instead of a live plant.
        anew: begin anew, wherever it stopped.

    Raises:
        UserError: several are named, it cannot be opened, or another process watches already.
    """
    if not (zeek_dir or interface or replay):
        return None
    if capture is not None:
        raise UserError(
            f"both a live plant and the capture {capture} are named; expected one of them; "
            "a capture can be opened on the page"
        )
    folder = settings.home / "monitor"
    lock = own_folder(folder, "the monitor's state")
    try:
        source, name = open_source(zeek_dir, interface, replay, speed, user, folder, anew)
    except BaseException:
        lock.release()
        raise
    return Opened(source, name, folder, lock)


def begin_live(opened: Opened, session: Session, plant: Plant | None, minutes: float) -> Live:
    """Watch in a thread; what is raised goes to the session's history."""
    models, bounds = session.models, Bounds(horizon_s=minutes * 60)
    watched = Watched(
        opened.source, models.llm, models.card, session.history, opened.folder, opened.name, plant,
        session.settings.local, bounds,
    )  # fmt: skip
    return Live(lambda: Monitor(watched), opened.name, opened.source.live)

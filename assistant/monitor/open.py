"""Open the source that a command names: a Zeek folder, an interface or a recording."""

from pathlib import Path

from assistant.monitor.replay import open_replay
from assistant.monitor.source import Source
from assistant.monitor.watch import find_position
from traffic.errors import UserError


def open_source(
    zeek_dir: Path | None,
    interface: str | None,
    replay: Path | None,
    speed: float,
    user: str,
    folder: Path,
) -> tuple[Source, str]:
    """The one source that is named, where the state says that it stopped, with its name for
    sentences.

    Args:
        zeek_dir, interface, replay: one of them.
        speed: of a replay.
        user: whom root becomes once an interface is open.
        folder: of the state.

    Raises:
        UserError: none or several are named, it cannot be opened, or the state is of another.
    """
    named = {"zeek-dir": zeek_dir, "interface": interface, "replay": replay}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise UserError(
            f"{len(given)} sources are named; expected one of --zeek-dir FOLDER, --interface NAME and "
            "--replay PATH; name one"
        )
    name = str(named[given[0]])
    position = find_position(folder, name)
    del user
    if replay is None:
        raise UserError(
            f"--{given[0]} is not there yet; expected --replay PATH; replay a recording"
        )
    return open_replay(replay, speed, position), name

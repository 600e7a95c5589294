"""Open the source that a command names: a Zeek folder, an interface or a recording."""

from pathlib import Path

from assistant.monitor.interface import Interface, drop_privileges
from assistant.monitor.replay import open_replay
from assistant.monitor.source import Source
from assistant.monitor.watch import end_run, find_position
from assistant.monitor.zeek_folder import ZeekFolder
from traffic.errors import UserError


def open_source(
    zeek_dir: Path | None,
    interface: str | None,
    replay: Path | None,
    speed: float,
    user: str,
    folder: Path,
    anew: bool,
) -> tuple[Source, str]:
    """The one source that is named, where the state says that it stopped, with its name for
    sentences.

    Args:
        zeek_dir, interface, replay: one of them.
        speed: of a replay.
        user: whom root becomes once an interface is open.
        folder: of the state.
        anew: begin with a recording's first packet, though the state says that it stopped later.

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
    if anew:
        end_run(folder)
    position = find_position(folder, name)
    if replay is not None:
        return open_replay(replay, speed, position), name
    if zeek_dir is not None:
        return ZeekFolder(zeek_dir, position), name
    opened = Interface(name)
    drop_privileges(user)
    return opened, name

"""What a monitor works with, and what it reports of a slot."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assistant.history import History
from assistant.llm.adapters import AdapterCard
from assistant.llm.remembered import Scorer
from assistant.monitor.alarms import Change
from assistant.monitor.judged import Judged
from assistant.monitor.sensor import Condition
from assistant.monitor.source import Source
from traffic.plant import Plant

HORIZON_S = 3600.0
MOST_ROWS = 600_000
_MOST_SLOTS = 30  # closed at once when input waits, five minutes


@dataclass(frozen=True)
class Bounds:
    """How much is looked back at.

    Attributes:
        horizon_s: how long.
        most_rows: packets or rows of logs, whatever the time.
        most_slots: how many slots are closed at once when input waits.
    """

    horizon_s: float = HORIZON_S
    most_rows: int = MOST_ROWS
    most_slots: int = _MOST_SLOTS


@dataclass(frozen=True)
class SlotReport:
    """What closing slots gave.

    Attributes:
        end_s: end of the newest closed slot.
        slots: how many were closed at once.
        devices: how many have windows that end with it.
        judged: the verdicts, and which of them are new.
        late: stamps that came after their slot was closed, since the start.
        verdict_s, alarm_s: from the moment the slot was over to verdicts, and to alarms.
        changes: of alarms.
        conditions: what is wrong with the sensor.
        look: whether the slot was still open, so that nothing was closed and no window judged.
    """

    end_s: float
    slots: int
    devices: int
    judged: Judged
    late: int
    verdict_s: float
    alarm_s: float
    changes: tuple[Change, ...]
    conditions: tuple[Condition, ...]
    look: bool = False


@dataclass
class Watched:
    """What a monitor works with.

    Attributes:
        source: of traffic.
        llm, card: the model that classifies.
        history: gets incidents, alarms and the audit log.
        folder: of the state.
        name: of the source, for sentences.
        plant, local: as everywhere.
    """

    source: Source
    llm: Scorer
    card: AdapterCard
    history: History
    folder: Path
    name: str
    plant: Plant | None = None
    local: Sequence[str] = ()
    bounds: Bounds = field(default_factory=Bounds)

"""The sensor's health: what is wrong with how the plant is watched, as conditions that raise alarms
of their own. A dead mirror port must not look like a calm plant."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from assistant.facts.fact import Value, make_fact
from assistant.monitor.source import Trouble
from traffic.files import Strict, read_yaml
from traffic.quality import Quality

SENSOR = "sensor"
_MOST_ONE_WAY, _LEAST_TALKS = 0.5, 3
_HELD_S = 60.0  # what is counted, and not a state, is shown for as long


class SensorWords(Strict):
    """How a condition is explained; ``text`` is the sentence of its fact."""

    text: str
    cause: str
    consequence: str
    response: str
    respond_min: int
    tier: Literal["log", "notification", "alarm"]
    priority: Literal["low", "medium", "high"]


@cache
def read_sensor_words() -> dict[str, SensorWords]:
    """The words of every condition, by kind."""
    path = Path(__file__).with_name("sensor.yaml")
    return read_yaml(path, dict[str, SensorWords], "the words of the sensor's conditions")


@dataclass(frozen=True)
class Condition:
    """One thing that is wrong with the sensor.

    Attributes:
        kind: a key of ``sensor.yaml``.
        about: the interface, the folder, or what else it is about.
        since_s, now_s: by the traffic's clock, or this machine's where there is no traffic.
        text: one sentence.
    """

    kind: str
    about: str
    since_s: float
    now_s: float
    text: str

    @property
    def id(self) -> str:
        """The same as long as it lasts, and when it comes again."""
        mark = hashlib.sha256(f"{self.kind} {self.about}".encode()).hexdigest()[:8]
        return f"{SENSOR}-{self.kind}-{mark}"

    @property
    def words(self) -> SensorWords:
        """How it is explained."""
        return read_sensor_words()[self.kind]


def make_condition(
    kind: str, about: str, since_s: float, now_s: float, **values: Value
) -> Condition:
    """A condition with its sentence."""
    named: dict[str, Value] = dict(values)
    named |= {"about": about, "since_time_s": since_s, "now_time_s": now_s}
    text = make_fact(kind, read_sensor_words()[kind].text, named).text
    return Condition(kind, about, since_s, now_s, text)


_SILENT = {"interface_down", "folder_gone"}  # nothing can arrive then: one alarm says why


class SensorHealth:
    """What is wrong with the sensor, over time."""

    def __init__(self, name: str, quiet_s: float = 60.0) -> None:
        """Begin to watch.

        Args:
            name: of the source, for sentences.
            quiet_s: nothing arriving for so long is an alarm.
        """
        self._name, self._quiet_s = name, quiet_s
        self._arrived_s: float | None = None
        self._held: dict[tuple[str, str], tuple[Condition, float]] = {}
        self._states: dict[tuple[str, str], Condition] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._seen: tuple[Condition, ...] = ()

    def see_troubles(self, troubles: tuple[Trouble, ...], arrived: bool, at_s: float) -> None:
        """What a source says of itself.

        Args:
            troubles: what is wrong with it now; one with a count is shown for a while.
            arrived: whether anything came.
            at_s: this machine's clock.
        """
        if arrived or self._arrived_s is None:
            self._arrived_s = at_s
        before, self._states = self._states, {}
        for one in troubles:
            key, about = (one.kind, one.about), one.about or self._name
            if one.count:
                self._counts[key] = self._counts.get(key, 0) + one.count
                self.hold(
                    make_condition(one.kind, about, at_s, at_s, count=self._counts[key]), at_s
                )
            else:
                since_s = before[key].since_s if key in before else at_s
                self._states[key] = make_condition(one.kind, about, since_s, at_s)

    def hold(self, condition: Condition, at_s: float) -> None:
        """Show what happened at a moment for a while."""
        self._held[condition.kind, condition.about] = (condition, at_s + _HELD_S)

    def see_quality(self, quality: Quality, now_s: float) -> None:
        """What a capture of the recent past does not show."""
        whole, found = quality.whole, []
        talks = whole["one_way"] + whole["two_way"]
        if talks >= _LEAST_TALKS and whole["one_way_share"] >= _MOST_ONE_WAY:
            values = {"share_share": float(whole["one_way_share"])}
            found.append(make_condition("one_way", self._name, now_s, now_s, **values))
        self._seen = tuple(found)

    def conditions(self, at_s: float, live: bool) -> list[Condition]:
        """All that is wrong now.

        Args:
            at_s: this machine's clock.
            live: whether nothing arriving means something; not where a recording is given slowly.
        """
        self._held = {key: held for key, held in self._held.items() if held[1] > at_s}
        self._counts = {key: n for key, n in self._counts.items() if key in self._held}
        found = [condition for condition, _ in self._held.values()]
        found += [*self._states.values(), *self._seen]
        since_s = self._arrived_s
        explained = any(one.kind in _SILENT for one in self._states.values())
        if live and not explained and since_s is not None and at_s - since_s >= self._quiet_s:
            found.append(make_condition("nothing_arrives", self._name, since_s, at_s))
        return found

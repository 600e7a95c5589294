"""What devices say of themselves, as tables: lines of their logs, readings of their sensors.

None of it is heard on the wire. It is joined to the capture by device and time; ``traffic.device_logs``
reads it. The words of a log may come from an attacker: every table but ``templates`` holds numbers,
names of devices and fixed kinds alone.
"""

from dataclasses import dataclass, field
from functools import partial

import pandas as pd

_LOGS = {
    "log": "int64", "device": "str", "source": "str", "lines": "int64", "start_s": "float64",
    "end_s": "float64", "offset_s": "float64", "matched": "int64", "checked": "int64",
}  # fmt: skip
_LOG_FINDINGS = {
    "device": "str", "log": "int64", "template": "int64", "kind": "str", "severity": "int64",
    "complains": "bool", "start_s": "float64", "end_s": "float64", "count": "int64",
    "before": "int64", "before_s": "float64", "usual_per_min": "float64", "first_line": "int64",
    "last_line": "int64", "low": "float64", "typical": "float64", "high": "float64",
}  # fmt: skip
_TEMPLATES = {"template": "int64", "words": "str"}
_SENSORS = {
    "sensor": "str", "device": "str", "source": "str", "readings": "int64", "missing": "int64",
    "start_s": "float64", "end_s": "float64", "period_s": "float64",
}  # fmt: skip
_SENSOR_FINDINGS = {
    "sensor": "str", "device": "str", "kind": "str", "start_s": "float64", "end_s": "float64",
    "count": "int64", "value": "float64", "usual": "float64",
}  # fmt: skip


def _empty(types: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})


@dataclass(frozen=True)
class DeviceRecords:
    """Logs and sensor readings of devices; empty where none were given.

    ``device`` is an address, "" where nobody knows whose it is. Times are seconds since the epoch
    on the capture's clock, as far as it is known.

    Attributes:
        logs: one row per file and device that wrote in it. ``offset_s`` is by how much its clock
            is ahead (taken off its times already), NaN where it could not be checked; of
            ``checked`` lines that name traffic, ``matched`` lie beside it.
        log_findings: what stands out in a log. ``kind`` is ``new`` (lines of a template that none
            had in the ``before_s`` before) or ``burst`` (far more lines than its
            ``usual_per_min``); ``complains`` where ``severity`` (RFC 5424's, 0 to 7, -1 where
            no line says one) or words speak of a failure; ``low``, ``typical``, ``high`` are of the
            first number in the lines, NaN where they hold none.
        templates: ``words`` of each template as they stand, ``<*>`` for what varies: text from
            outside, only ever to be quoted.
        sensors: one row per sensor; ``period_s`` is the median time between its readings,
            ``missing`` how many are no number.
        sensor_findings: what stands out in a sensor. ``kind`` is ``frozen`` (``count`` readings of
            one ``value``; ``usual`` is how many it repeats at most), ``gap`` (``usual`` is the
            period), ``jump`` (by ``value``; ``usual`` is what a step is at most) or ``outlier``
            (``value`` is the farthest, ``usual`` the bound that it passed).
        notes: what was skipped or assumed, one sentence each.
    """

    logs: pd.DataFrame = field(default_factory=partial(_empty, _LOGS))
    log_findings: pd.DataFrame = field(default_factory=partial(_empty, _LOG_FINDINGS))
    templates: pd.DataFrame = field(default_factory=partial(_empty, _TEMPLATES))
    sensors: pd.DataFrame = field(default_factory=partial(_empty, _SENSORS))
    sensor_findings: pd.DataFrame = field(default_factory=partial(_empty, _SENSOR_FINDINGS))
    notes: tuple[str, ...] = ()

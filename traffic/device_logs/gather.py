"""Logs and readings of devices, from files to what stands out in them, on the capture's clock."""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from traffic.capture import Capture
from traffic.device_logs.clock import ClockOffset, estimate_offset, list_traffic
from traffic.device_logs.log_events import find_unusual
from traffic.device_logs.log_file import LogFile, is_log, read_log
from traffic.device_logs.readings import ReadingsFile, is_readings, read_readings
from traffic.device_logs.sensor_events import describe_sensors, find_unusual_readings
from traffic.device_records import DeviceRecords
from traffic.errors import UserError
from traffic.plant import Plant

MOST_FINDINGS = 200  # of one log; the rest is counted
_MOST_FILES = 500  # that a folder is searched for
_NAMED = 3  # hosts that a note names


@dataclass(frozen=True)
class RecordFile:
    """A file of records; ``device`` is whose it is, by name or address, "" where its lines say."""

    path: Path
    device: str = ""


def parse_source(text: str) -> RecordFile:
    """``PATH``, or ``DEVICE=PATH`` where no path of that name exists.

    >>> parse_source("plc-1=a.log")
    RecordFile(path=PosixPath('a.log'), device='plc-1')
    """
    device, equals, path = text.partition("=")
    if equals and path and not Path(text).exists():
        return RecordFile(Path(path), device.strip())
    return RecordFile(Path(text))


def gather_records(
    capture: Capture,
    plant: Plant | None = None,
    logs: Sequence[RecordFile] = (),
    readings: Sequence[RecordFile] = (),
    beside: Path | None = None,
) -> DeviceRecords:
    """Read what devices say of themselves, and find what stands out while the capture ran.

    Args:
        capture: its time and flows.
        plant: names and addresses of devices.
        logs: files of log lines, or folders of them.
        readings: tables of sensor readings, or folders of them.
        beside: a folder whose files, and those one folder below, are searched for both, by content.

    Raises:
        UserError: a named file is missing or none of its kind; a device is not known.
    """
    names = list_names(plant)
    near_s = capture.end_s if np.isfinite(capture.end_s) else 0.0
    log_files = _expand(logs, "a log", lambda path: is_log(path, near_s))
    tables = _expand(readings, "a table of readings", is_readings)
    read_logs = [(file, read_log(file.path, near_s, names)) for file in log_files]
    read_tables = [(file, read_readings(file.path)) for file in tables]
    named = {file.path.resolve() for file in (*log_files, *tables)}
    found, notes = [], []
    for path in _list_files(beside, deep=True) if beside is not None and beside.is_dir() else []:
        if path.resolve() in named:
            continue
        file = RecordFile(path)
        try:
            if is_log(path, near_s):
                read_logs.append((file, read_log(path, near_s, names)))
            elif is_readings(path):
                read_tables.append((file, read_readings(path)))
            else:
                continue
            found.append(path.name)
        except UserError as error:  # nobody named it: the capture is answered without it
            notes.append(f"left out, though it lies beside the capture: {error}.")
    if found:
        said = f"logs and readings of devices lie beside the capture and were read too: {listed_sources(found)}."
        notes = [said, *notes]
    records = DeviceRecords(notes=tuple(notes))
    if read_logs:
        records = _add_logs(records, read_logs, names, capture)
    return _add_readings(records, read_tables, names, capture) if read_tables else records


def list_names(plant: Plant | None) -> dict[str, str]:
    """Addresses of devices by what a record may call them, lower case."""
    names = {}
    for device in plant.devices if plant else ():
        for name in (*device.aliases, device.name, device.address):
            names[name.lower()] = device.address
    return names


def find_address(host: str, names: dict[str, str]) -> str:
    """The address of a device as a record names it; "" where nobody knows it.

    >>> find_address("PLC-1.plant.example", {"plc-1": "10.0.0.1"}), find_address("10.0.0.9", {})
    ('10.0.0.1', '10.0.0.9')
    """
    host = host.lower().removeprefix("::ffff:")
    if host in names:
        return names[host]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return names.get(host.partition(".")[0], "")


def _find_device(name: str, names: dict[str, str], capture: Capture) -> str:
    ends = pd.concat([capture.flows["id.orig_h"], capture.flows["id.resp_h"]])
    address = find_address(name, names)
    if address and (address in names or (ends == address).any()):
        return address
    raise UserError(
        f"{name!r} is no device of this capture or of plant.yaml; expected a name or address of one; "
        "write DEVICE=PATH, and name the inventory with --plant"
    )


def _expand(
    files: Iterable[RecordFile], what: str, fits: Callable[[Path], bool]
) -> list[RecordFile]:
    """Folders as the files of a kind in them."""
    found = []
    for file in files:
        if not file.path.exists():
            raise UserError(
                f"{file.path} does not exist; expected {what} or a folder of such files; check the path"
            )
        if not file.path.is_dir():
            found.append(file)
            continue
        inside = [path for path in _list_files(file.path, deep=False) if fits(path)]
        if not inside:
            raise UserError(
                f"{file.path} holds no file that looks like {what}; expected one; name the files themselves"
            )
        found += [RecordFile(path, file.device) for path in inside]
    return found


def _list_files(folder: Path, deep: bool) -> list[Path]:
    below = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    files = [one for one in below if one.is_file()]
    if deep:
        for inner in (one for one in below if one.is_dir() and not one.is_symlink()):
            files += _list_files(inner, deep=False)
    return files[:_MOST_FILES]


# ---- Logs: whose each line is, its clock, what stands out ----


def _add_logs(
    records: DeviceRecords,
    files: Sequence[tuple[RecordFile, LogFile]],
    names: dict[str, str],
    capture: Capture,
) -> DeviceRecords:
    """The lines of all files as tables; a log is what one device wrote into one file."""
    read = [one for _, one in files]
    owners, pieces, templates, rest = [], [], [], 0
    failing: set[int] = set()
    for number, (file, one) in enumerate(files):
        owners.append(_find_owner(file, one, names, capture))
        pieces.append(one.lines.assign(file=number, template=one.lines["template"] + rest))
        templates.append(pd.Series(one.words, dtype="str").rename(lambda at, rest=rest: at + rest))
        failing |= {number + rest for number in one.failing}
        rest += max(one.words, default=0) + 1
    lines = pd.concat(pieces, ignore_index=True)
    lines["device"] = np.concatenate(owners)
    lines["log"] = lines.groupby(["file", "device"], sort=True).ngroup()
    logs = [_time_log(one, capture) for _, one in lines.groupby("log", sort=True)]
    table = pd.DataFrame(logs, columns=["device", "offset_s", "matched", "checked"])
    lines["ts"] -= lines["log"].map(table["offset_s"].fillna(0.0)).to_numpy(float)
    groups = lines.groupby("log")
    table = table.assign(
        log=np.arange(len(table)),
        source=groups["file"].first().map(lambda number: read[number].source),
        lines=groups["count"].sum(),
        start_s=groups["ts"].min(),
        end_s=groups["ts"].max(),
    )
    words = pd.concat(templates)
    findings = find_unusual(lines, failing, capture.start_s, capture.end_s)
    if len(findings):
        findings = findings.groupby("log").head(MOST_FINDINGS)
    notes = [note for one in read for note in one.notes]
    notes += [*_say_unknown(lines, read), *_say_elsewhere(table, capture)]
    return replace(
        records,
        logs=as_table("logs", table),
        log_findings=as_table("log_findings", findings),
        templates=pd.DataFrame({"template": words.index, "words": words.to_numpy()}),
        notes=(*records.notes, *notes),
    )


def as_table(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """A table in the form that ``DeviceRecords`` says."""
    like = getattr(DeviceRecords(), name)
    if table.empty:
        return like
    return table[like.columns].astype(like.dtypes.to_dict()).reset_index(drop=True)


def _find_owner(
    file: RecordFile, read: LogFile, names: dict[str, str], capture: Capture
) -> np.ndarray:
    """The address of the device of each line, "" where nobody knows it."""
    if file.device:
        return np.full(len(read.lines), _find_device(file.device, names, capture), object)
    code, hosts = pd.factorize(read.lines["host"])
    return np.array([find_address(host, names) for host in hosts], object)[code]


def _time_log(lines: pd.DataFrame, capture: Capture) -> tuple[str, float, int, int]:
    """The device of a log, and how its clock runs."""
    device = str(lines["device"].iloc[0])
    named = lines[(lines["peer"] != "") & (lines["peer"] != device)][["ts", "peer", "port"]]
    clock = ClockOffset()
    if device and len(named):
        traffic = list_traffic(capture.flows, device)
        named = named.astype({"peer": "object"})
        clock = estimate_offset(named, traffic, capture.start_s, capture.end_s)
    return device, clock.offset_s, clock.matched, clock.checked


def _say_unknown(lines: pd.DataFrame, read: Sequence[LogFile]) -> list[str]:
    unknown = lines[lines["device"] == ""]
    if unknown.empty:
        return []
    sources = listed_sources([read[number].source for number in unknown["file"].unique()])
    return [
        f"{len(unknown):,} lines of {sources} name no device, or one that neither plant.yaml nor its address makes "
        "known; name it there, or say whose a file is with --logs DEVICE=PATH."
    ]


def _say_elsewhere(spans: pd.DataFrame, capture: Capture) -> list[str]:
    """Logs and tables without a line of the capture's time, with theirs."""
    away = spans[(spans["end_s"] < capture.start_s) | (spans["start_s"] > capture.end_s)]
    if away.empty:
        return []
    span = away["start_s"].min(), away["end_s"].max()
    first, last = (pd.Timestamp(s, unit="s").strftime("%Y-%m-%d %H:%M:%S") for s in span)
    named = listed_sources(away["source"].drop_duplicates().tolist())
    said = f"nothing in {named} falls into the capture's time; it is from {first} to {last}, read as UTC"
    shift_h = round((sum(span) - capture.start_s - capture.end_s) / 7200)
    fits = span[0] - 3600 * shift_h < capture.end_s and span[1] - 3600 * shift_h > capture.start_s
    if shift_h and abs(shift_h) <= 14 and fits:
        side = "ahead of" if shift_h > 0 else "behind"
        said += f" where it tells no zone; a clock {abs(shift_h)} h {side} the capture's would explain it"
    return [f"{said}."]


def listed_sources(names: Sequence[str]) -> str:
    """File names as a note lists them, the tail as a number."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


# ---- Readings: whose each sensor is, what stands out ----


def _add_readings(
    records: DeviceRecords,
    files: Sequence[tuple[RecordFile, ReadingsFile]],
    names: dict[str, str],
    capture: Capture,
) -> DeviceRecords:
    sensors: list[pd.DataFrame] = []
    findings: list[pd.DataFrame] = []
    for file, one in files:
        given = _find_device(file.device, names, capture) if file.device else ""
        owner = {
            sensor: given or next(filter(None, (find_address(word, names) for word in words)), "")
            for sensor, words in one.words.items()
        }
        table = describe_sensors(one.readings).assign(source=one.source)
        found = find_unusual_readings(one.readings, capture.start_s, capture.end_s)
        for part, kept in ((table, sensors), (found, findings)):
            if len(part):
                sensor = part["sensor"].astype("str")
                kept.append(part.assign(sensor=sensor, device=sensor.map(owner)))
    notes = [note for _, one in files for note in one.notes]
    table = pd.concat(sensors or [DeviceRecords().sensors], ignore_index=True)
    unknown = table[table["device"] == ""]
    if len(unknown):
        sources = listed_sources(unknown["source"].drop_duplicates().tolist())
        notes.append(
            f"{len(unknown)} of {len(table)} sensors in {sources} belong to no device of plant.yaml; give the device "
            "the sensor's name as an alias, or say --readings DEVICE=PATH."
        )
    notes += _say_elsewhere(table, capture)
    return replace(
        records,
        sensors=as_table("sensors", table),
        sensor_findings=as_table("sensor_findings", pd.concat([pd.DataFrame(), *findings])),
        notes=(*records.notes, *notes),
    )

"""Captures of any form: the format is detected by magic number, never by a file's name."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS, Capture, join_evidence
from traffic.errors import UserError
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets
from traffic.pcap.parts import read_large
from traffic.pcap.records import is_capture
from traffic.pcap.unpack import is_pointer, read_head, refuse_pointer
from traffic.zeek.alerts import ALERT_LOGS, read_alerts
from traffic.zeek.beside import Span, join_notices, note_far, notice_evidence
from traffic.zeek.conn import KeptLogs, find_conn_logs, read_zeek
from traffic.zeek.logs import is_packed
from traffic.zeek.shares import estimate_rows


def read_capture(
    path: Path | str, scratch: Path | None = None, whole: bool = True, kept: KeptLogs | None = None
) -> Capture:
    """Read a pcap or pcapng (packed by gzip or not), a Zeek conn.log in any form, or a folder of
    either.

    A plant that ``faultwise simulate`` made has evidence.csv beside its conn.log: what packets
    would have shown.

    Args:
        path: a file; or a folder, whose pcaps together are one capture, or, where it holds none,
            whose Zeek logs are.
        scratch: where pcaps larger than ``LARGE_BYTES`` are cut into parts; by default the system's
            folder for temporary files.
        whole: whether to keep of such pcaps the sessions and exchanges, which no sample needs.
        kept: of who reads a folder of logs that grows again and again: what is known from before.

    Raises:
        UserError: nothing is there, it cannot be read, or it holds no capture.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path} does not exist; expected a pcap, a Zeek conn.log or a folder of either; check the path"
        )
    if path.is_dir():
        return _read_folder(path, scratch, whole, kept)
    refuse_pointer(path)
    return _read_pcaps([path], scratch, whole) if is_pcap(path) else _read_zeek(path)


LARGE_ROWS = 3_000_000
LARGE_BYTES = 256 << 20  # three million small packets, and what is read of them in 1.5 GB
_PACKED = 6  # times smaller, about


def is_large(path: Path) -> bool:
    """Whether a path holds Zeek's logs of more flows, or pcaps of more bytes, than should be in
    memory at once, about ``LARGE_ROWS`` or ``LARGE_BYTES``.

    Raises:
        UserError: nothing is there, or it cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    if not path.exists() or (folder / "evidence.csv").is_file():
        return False
    if pcaps := find_pcaps(path):
        return _is_large(pcaps)
    if path.is_dir() and not find_conn_logs(path):
        return False
    return estimate_rows(path) > LARGE_ROWS


def _is_large(pcaps: list[Path]) -> bool:
    sizes = (path.stat().st_size * (_PACKED if is_packed(path) else 1) for path in pcaps)
    return sum(sizes) > LARGE_BYTES


def is_pcap(path: Path) -> bool:
    """Whether the file, or what gzip packed in it, starts like a pcap or a pcapng.

    Raises:
        UserError: the file cannot be read.
    """
    return is_capture(read_head(path, 4))


def find_pcaps(path: Path) -> list[Path]:
    """The pcaps that ``path`` is or holds, in order; none where it is or holds logs."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.is_file() and is_pcap(file)]


def _read_folder(folder: Path, scratch: Path | None, whole: bool, kept: KeptLogs | None) -> Capture:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    pcaps = find_pcaps(folder)
    pointers = [file for file in files if is_pointer(file)]
    if not pcaps and not find_conn_logs(folder):
        for pointer in pointers:
            refuse_pointer(pointer)
        raise UserError(
            f"{folder} holds no capture ({len(files)} files searched for pcap and pcapng, and for Zeek's conn*.log "
            "and conn*.log.gz); expected one of these; pass the file or folder that Zeek or tcpdump wrote"
        )
    capture = _read_pcaps(pcaps, scratch, whole) if pcaps else _read_zeek(folder, kept)
    if pcaps:
        capture = _add_alerts(capture, files)
    missing = tuple(
        f"{path.name}: a Git LFS pointer, not its file, was skipped" for path in pointers
    )
    return replace(capture, notes=(*capture.notes, *missing)) if missing else capture


def _add_alerts(capture: Capture, files: list[Path]) -> Capture:
    """Packets with what other detectors say of them, where their logs lie beside."""
    notes: list[str] = []
    named = [path for path in files if path.name.split(".")[0] in ALERT_LOGS]
    found = join_notices([one for path in named if len(one := read_alerts(path, notes))])
    if not named:
        return capture
    evidence = notice_evidence(found, Span(capture.start_s, capture.end_s))
    joined = join_evidence([capture.evidence, evidence])
    notes = [*capture.notes, *notes, *note_far(found, Span(capture.start_s, capture.end_s))]
    return replace(capture, notices=found, evidence=joined, notes=tuple(notes))


def _read_pcaps(paths: list[Path], scratch: Path | None, whole: bool) -> Capture:
    if _is_large(paths):
        return read_large(paths, scratch, whole)
    return make_flows(read_packets(paths))


def _read_zeek(path: Path, kept: KeptLogs | None = None) -> Capture:
    capture = read_zeek(path, kept)
    known = {note.removesuffix(".") for note in capture.notes}
    unseen = (note for note in capture.quality.notes if note not in known)
    capture = replace(capture, notes=(*capture.notes, *unseen))
    beside = (path if path.is_dir() else path.parent) / "evidence.csv"
    if not beside.is_file():
        return capture
    return replace(capture, evidence=_read_evidence(beside, capture.evidence.dtypes.to_dict()))


def _read_evidence(path: Path, types: dict) -> pd.DataFrame:
    try:
        # Simulated packets have a slot and no moment in it.
        counted = pd.read_csv(path, dtype=types, usecols=EVIDENCE_COLUMNS[:7])
        return counted.reindex(columns=EVIDENCE_COLUMNS)
    except (OSError, ValueError) as error:  # pandas' parsing errors are ValueErrors
        raise UserError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; expected what faultwise simulate writes beside a "
            "conn.log; remove or rename it"
        ) from error

"""Captures of any form: the format is detected by magic number, never by a file's name."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from traffic.capture import EVIDENCE_COLUMNS, Capture
from traffic.errors import UserError
from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets
from traffic.pcap.records import is_capture
from traffic.zeek.conn import find_conn_logs, read_zeek


def read_capture(path: Path | str) -> Capture:
    """Read a pcap, a pcapng, a Zeek conn.log in any form, or a folder of either.

    A plant that ``faultwise simulate`` made has evidence.csv beside its conn.log: what packets
    would have shown.

    Args:
        path: a file; or a folder, whose pcaps together are one capture, or, where it holds none,
            whose Zeek logs are.

    Raises:
        UserError: nothing is there, it cannot be read, or it holds no capture.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path} does not exist; expected a pcap, a Zeek conn.log or a folder of either; check the path"
        )
    if path.is_dir():
        return _read_folder(path)
    return _read_pcaps([path]) if is_pcap(path) else _read_zeek(path)


def is_pcap(path: Path) -> bool:
    """Whether the file starts like a pcap or a pcapng.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return is_capture(stream.read(4))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected a readable file; check it"
        ) from error


def _read_folder(folder: Path) -> Capture:
    pcaps = sorted(file for file in folder.iterdir() if file.is_file() and is_pcap(file))
    if pcaps:
        return _read_pcaps(pcaps)
    if find_conn_logs(folder):
        return _read_zeek(folder)
    files = sum(1 for file in folder.iterdir() if file.is_file())
    raise UserError(
        f"{folder} holds no capture ({files} files searched for pcap and pcapng, and for Zeek's conn*.log and "
        "conn*.log.gz); expected one of these; pass the file or folder that Zeek or tcpdump wrote"
    )


def _read_pcaps(paths: list[Path]) -> Capture:
    return make_flows(read_packets(paths))


def _read_zeek(path: Path) -> Capture:
    capture = read_zeek(path)
    beside = (path if path.is_dir() else path.parent) / "evidence.csv"
    if not beside.is_file():
        return capture
    return replace(capture, evidence=_read_evidence(beside, capture.evidence.dtypes.to_dict()))


def _read_evidence(path: Path, types: dict) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=types, usecols=EVIDENCE_COLUMNS)[EVIDENCE_COLUMNS]
    except (OSError, ValueError) as error:  # pandas' parsing errors are ValueErrors
        raise UserError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; expected what faultwise simulate writes beside a "
            "conn.log; remove or rename it"
        ) from error

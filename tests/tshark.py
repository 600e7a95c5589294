"""What tshark reads in a capture: the second opinion on every protocol."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from traffic.pcap.flows import make_flows
from traffic.pcap.packets import read_packets


def fields(path: Path, wanted: str, *names: str) -> list[list[str]]:
    """Some fields of the packets that a display filter keeps, text, each packet's values joined by
    commas."""
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed: the readers have no second opinion")
    command = ["tshark", "-r", str(path), "-Y", wanted, "-T", "fields"]
    command += [word for name in names for word in ("-e", name)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split("\t") for line in out.splitlines()]


def exchanges(path: Path, protocol: str) -> pd.DataFrame:
    """The exchanges of one protocol, as faultwise reads them."""
    found = make_flows(read_packets([path])).exchanges
    return found[found["protocol"] == protocol].reset_index(drop=True)

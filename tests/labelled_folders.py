"""Folders of labelled captures for tests: small simulated plants, written as the command writes
them."""

from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner

from assistant.cli.main import app

SCENARIOS = ("recon", "dos", "c2", "service_down")


def write_plants(
    folder: Path,
    seeds: Sequence[int],
    devices: int = 4,
    hours: float = 0.1,
    scenarios: Sequence[str] = SCENARIOS,
) -> Path:
    for seed in seeds:
        asked = [word for name in scenarios for word in ("--scenario", name)]
        size = ["--seed", str(seed), "--devices", str(devices), "--hours", str(hours)]
        done = CliRunner().invoke(
            app, ["simulate", "--out", str(folder / f"plant-{seed}"), *size, *asked]
        )
        assert done.exit_code == 0, done.output
    return folder

"""Measure what work costs: wall clock, CPU seconds, memory, energy."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

# Assumed of one busy core with its share of memory and supply, where nothing can be read: between a
# small server's 5 W and a workstation's 20 W. Estimates scale with it; comparisons of models do not
# depend on it.
CORE_WATTS = 10.0
_RAPL = Path("/sys/class/powercap")
_SELF = Path("/proc/self")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """The cost of a piece of work.

    Attributes:
        wall_s: seconds of wall clock.
        cpu_s: CPU seconds of this process.
        memory_bytes: most memory that it held, above what it held before; None where the system
            does not tell.
        energy_j: joules.
        energy_from: how ``energy_j`` was obtained.
    """

    wall_s: float
    cpu_s: float
    memory_bytes: int | None
    energy_j: float
    energy_from: Literal["RAPL", "CPU-seconds x stated watts"]


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """The result of a piece of work, and its cost."""

    result: Result
    cost: Cost


def measure_cost(work: Callable[[], Result], alone: bool = False) -> Measured[Result]:
    """Do something and measure what it takes.

    Args:
        work: what to do.
        alone: nothing else runs on the machine; only then does RAPL, which counts whole processors,
            say what this took.
    """
    before = _reset_peak()
    energy = _read_rapl() if alone else {}
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    peak = _read_status("VmHWM")
    memory = max(0, peak - before) if peak is not None and before is not None else None
    joules = _between(energy, _read_rapl()) if energy else None
    if joules is None:
        estimated = cpu_s * CORE_WATTS
        cost = Cost(wall_s, cpu_s, memory, estimated, "CPU-seconds x stated watts")
    else:
        cost = Cost(wall_s, cpu_s, memory, joules, "RAPL")
    return Measured(result, cost)


def _reset_peak() -> int | None:
    """Let the kernel count the peak anew (proc(5), clear_refs); bytes that are held now."""
    try:
        (_SELF / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _read_status("VmRSS")


def _read_status(name: str) -> int | None:
    try:
        lines = (_SELF / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _read_rapl() -> dict[Path, int]:
    """Microjoules of every processor package that may be read (intel-rapl:N, also on AMD)."""
    read = {}
    for domain in _RAPL.glob("intel-rapl:?"):
        try:
            read[domain] = int((domain / "energy_uj").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return {}
    return read


def _between(before: dict[Path, int], after: dict[Path, int]) -> float | None:
    """Joules between two readings of the same packages; a counter may have wrapped once."""
    if before.keys() != after.keys():
        return None
    joules = 0.0
    for domain, start in before.items():
        step = after[domain] - start
        if step < 0:
            step += int((domain / "max_energy_range_uj").read_text(encoding="ascii"))
        joules += step / 1e6
    return joules

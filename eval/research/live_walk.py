"""An operator's walk in a real browser while a recorded fault happens in real time, with its times.

    python -m eval.research.live_walk [RUN] [--device plc-4] [--shots FOLDER] [--out FILE]

RUN is replayed by `faultwise serve --replay RUN --speed 1` in a process of its own; the system's
Chromium looks at the page. The alarm is waited for, chosen, asked about, acknowledged and confirmed;
the next question has to find the new incident; after a reload all of it has to be there. What does
not happen ends the walk with what the page showed instead. With ``--shots`` pictures of each view are
kept: ``asked-alarms-1366.png`` is the one in the README.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from assistant.audit import check_audit
from assistant.monitor.replay import open_replay
from eval.report.tables import ReportTable, render_table
from eval.research.alarm_delay import AIM_S, read_events
from eval.research.command import SAMPLE, Out, Recording, publish, start
from eval.research.served import serving
from traffic.errors import UserError

SIZES = ((1366, 768), (390, 844))
_ANSWERS = "document.querySelectorAll('#thread .bot:not(.waiting)').length"
_ALARM = "· alarm ·"  # the tier as a row of the list says it
_LATEST_S = 300.0  # after the fault's first packet


@dataclass
class Walk:
    """Steps with the seconds that each took, in their order; and what the page asked of others."""

    steps: list[tuple[str, float]] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    audit: str = ""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one."""
        begun_s = time.monotonic()
        yield
        self.steps.append((name, time.monotonic() - begun_s))


def walk(run: Path, device: str, shots: Path | None, home: Path) -> Walk:
    """Walk once.

    Args:
        run: folder with a recording, plant.yaml and truth.json.
        device: its name in plant.yaml, which the first fault is of.
        shots: folder for pictures of the page at each size, if wanted.
        home: folder of the server's state.

    Raises:
        UserError: there is no chromium, or no fault in the recording.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise UserError("no chromium is here; expected the system's own; install it")
    from playwright.sync_api import sync_playwright

    event, first = read_events(run / "truth.json")[0], open_replay(run, 0.0).read(0.0)
    done = Walk()
    options = ("--replay", str(run), "--speed", "1", "--plant", str(run / "plant.yaml"))
    with (
        ExitStack() as stack,
        ThreadPoolExecutor(1) as beside,  # the replay begins before the server listens
        sync_playwright() as play,
    ):
        began = beside.submit(_begun_s, home / "monitor" / "recent")
        server = stack.enter_context(serving(home, options))
        fault_s = began.result() + event.start_s - float(first.ts[0])
        window = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = window.new_page(viewport={"width": SIZES[0][0], "height": SIZES[0][1]})
        page.set_default_timeout(60_000)
        page.on("request", lambda one: done.hosts.add(one.url.split("/")[2].split(":")[0]))
        page.goto(server.url)
        with done.step("a question before the fault"):
            page.wait_for_selector("#alarms >> text=judged", timeout=120_000)
            before = _ask(page, f"is {device} ok?")
        left_s = max(1.0, fault_s + _LATEST_S - time.time())
        mine = page.locator("#alarms button.alarm", has_text=device)
        mine.first.wait_for(timeout=1000 * left_s)
        done.steps.append(
            ("a first sign stands, after the fault's first packet", time.time() - fault_s)
        )
        mine.filter(has_text=_ALARM).first.wait_for(timeout=1000 * left_s)
        done.steps.append(
            ("the alarm stands, after the fault's first packet", time.time() - fault_s)
        )
        _do_with_alarm(page, device, shots, done)
        with done.step("the next question finds the incident"):
            said = _ask(page, "what is wrong?")
        if device not in said or said == before:
            raise RuntimeError(f"the incident was not found: {said[:300]}")
        _shoot(page, shots, "answered")
        with done.step("reloaded, nothing lost"):
            page.reload()
            page.wait_for_selector("#thread details.evidence >> nth=1")
            page.wait_for_selector("#alarms >> text=confirmed")
        window.close()
    done.audit = check_audit(home / "history.sqlite").outcome
    return done


def _do_with_alarm(page: Any, device: str, shots: Path | None, done: Walk) -> None:
    """Choose the alarm, ask, acknowledge, confirm."""
    with done.step("chosen: cause, consequence, response"):
        page.click(f"#alarms button.alarm >> text={device}")
        page.wait_for_selector("#alarm >> text=Consequence")
    with done.step("asked about, answered with evidence"):
        told = page.evaluate(_ANSWERS)
        page.click("#ask-why")
        page.wait_for_function(f"n => {_ANSWERS} > n", arg=told)
        page.wait_for_selector("#thread details.evidence >> nth=-1")
    _shoot(page, shots, "asked")
    with done.step("acknowledged"):
        page.click("#acknowledge")
        page.wait_for_selector("#said >> text=Acknowledged")
    with done.step("confirmed"):
        page.click("#thread .verdict >> nth=-1 >> text=Right")
        page.wait_for_selector("#alarms >> text=confirmed")


def _ask(page: Any, question: str) -> str:
    """Ask in the chat; the newest answer."""
    told = page.evaluate(_ANSWERS)
    page.fill("#question textarea", question)
    page.keyboard.press("Enter")
    page.wait_for_function(f"n => {_ANSWERS} > n", arg=told)
    return str(page.inner_text("#thread .bot:not(.waiting) >> nth=-1"))


def _begun_s(recent: Path) -> float:
    """When the replay's first packets were kept, on this machine's clock."""
    until_s = time.monotonic() + 120.0
    while time.monotonic() < until_s:
        pieces = list(recent.glob("*.000000.*")) if recent.is_dir() else []
        if pieces:
            return time.time()
        time.sleep(0.02)
    raise RuntimeError("the replay did not begin")


def _shoot(page: Any, shots: Path | None, name: str) -> None:
    """A picture of every view at every size."""
    if shots is None:
        return
    shots.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for view in ("Report", "Set up", "Device", "Plant", "Alarms"):
            page.click(f"#views [role=tab] >> text={view}")
            page.wait_for_timeout(800)
            page.screenshot(path=shots / f"{name}-{view.replace(' ', '-').lower()}-{width}.png")
        page.screenshot(path=shots / f"{name}-whole-{width}.png", full_page=True)
    page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})


def render_walk(done: Walk, run: str) -> str:
    """Markdown: a row a step."""
    load = os.getloadavg()[0]
    note = (
        f"Made by `python -m eval.research.live_walk` over `{run}` at its own speed; on "
        f"{os.cpu_count()} cores with a load of {load:.1f}, this included; the aim for the alarm is "
        f"{AIM_S:.0f} s. Hosts that the page asked: {', '.join(sorted(done.hosts))}. The audit log "
        f"was {done.audit}."
    )
    rows = tuple((name, f"{took_s:.1f}") for name, took_s in done.steps)
    return render_table(ReportTable("An operator's walk", ("step", "seconds"), rows, notes=(note,)))


def main(
    run: Recording = SAMPLE,
    device: Annotated[str, typer.Option(help="Whose fault it is.")] = "plc-4",
    shots: Annotated[Path | None, typer.Option(help="Folder for pictures of the page.")] = None,
    out: Out = None,
) -> None:
    """Walk and print or write the table."""
    with tempfile.TemporaryDirectory() as home:
        done = walk(run, device, shots, Path(home))
    publish(render_walk(done, run.name) + "\n", out)


if __name__ == "__main__":
    start(main)

"""How long operators wait for an answer where many ask at once: real HTTP clients and a real server.

python -m eval.research.ask_load --operators 20

Each operator has a tab of the page, as a browser opens it, and asks his own question through it
(Gradio's queue and its stream of events); as many programs ask the same over REST. What is measured
is from the press of the key to the answer's arrival, all of them pressed at once.
"""

import json
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer

from eval.research.command import SAMPLE, start
from eval.research.served import serving

QUESTIONS = (
    "why does plc-4 not answer?", "what is wrong?", "is hmi-1 ok?", "what should I check first?",
    "since when is plc-4 silent?", "who talks to plc-4?", "is it an attack?", "has it happened before?",
)  # fmt: skip
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Round:
    """Seconds until each answer, shape (operators,), and the server's CPU seconds for one."""

    how: str
    took_s: np.ndarray
    cpu_s: float


@dataclass(frozen=True)
class _Event:
    """An event of the page: its number, and the component that triggers it."""

    number: int
    trigger: int
    queued: bool


class Tab:
    """A tab of the page, as a browser has it."""

    def __init__(self, url: str) -> None:
        """Open it, and wait until it shows the plant."""
        self._http = httpx.Client(base_url=url, timeout=_PATIENCE_S)
        self._session = uuid.uuid4().hex
        config = self._http.get("/config").json()
        named = {one["props"].get("elem_id"): one["id"] for one in config["components"]}
        box = named["question"]
        self._loaded = _find(config, lambda targets, _: any(name == "load" for _, name in targets))
        self._put = _find(config, lambda targets, _: [box, "submit"] in targets)
        # What follows it: first the browser's own scrolling, then the answer.
        after = _find(config, lambda _, one: one.get("trigger_after") == self._put.number)
        self._answer = _find(config, lambda _, one: one.get("trigger_after") == after.number)
        self._tick = _find(config, lambda targets, _: any(name == "tick" for _, name in targets))
        self._do(self._loaded, [None])

    def ask(self, question: str) -> float:
        """Ask, and wait for the answer; how long that took, in seconds."""
        begun_s = time.perf_counter()
        self._do(self._put, [None, question])
        said = json.dumps(self._do(self._answer, [None]))
        if "evidence" not in said and "bot" not in said:
            raise RuntimeError(f"no answer to {question!r}: {said[:200]}")
        return time.perf_counter() - begun_s

    def look(self) -> None:
        """What the page does by itself every second and a half."""
        self._do(self._tick, [None])

    def close(self) -> None:
        """Close the tab."""
        self._http.close()

    def _do(self, event: _Event, data: list[Any]) -> Any:
        sent = {"data": data, "fn_index": event.number, "session_hash": self._session,
                "trigger_id": event.trigger, "event_data": None}  # fmt: skip
        if not event.queued:
            done = self._http.post("/gradio_api/run/predict", json=sent)
            return done.raise_for_status().json()["data"]
        joined = self._http.post("/gradio_api/queue/join", json=sent).raise_for_status().json()
        where = {"session_hash": self._session}
        with self._http.stream("GET", "/gradio_api/queue/data", params=where) as stream:
            for line in stream.iter_lines():
                told = json.loads(line[5:]) if line.startswith("data:") else {}
                if (
                    told.get("event_id") == joined["event_id"]
                    and told["msg"] == "process_completed"
                ):
                    if not told["success"]:
                        raise RuntimeError(f"the page failed: {told['output']}")
                    return told["output"]["data"]
        raise RuntimeError("the page ended without an answer")


def _find(config: Any, fits: Callable[[Any, Any], bool]) -> _Event:
    found = next(one for one in config["dependencies"] if fits(one["targets"], one))
    targets = [target for target, _ in found["targets"] if target is not None]
    return _Event(found["id"], targets[0] if targets else 0, bool(found["queue"]))


def ask_over_rest(url: str, question: str) -> float:
    """The same over REST, as a program asks."""
    begun_s = time.perf_counter()
    with httpx.Client(base_url=url, timeout=_PATIENCE_S) as http:
        answered = http.post("/api/v1/ask", json={"question": question})
    if not answered.raise_for_status().json()["text"]:
        raise RuntimeError(f"no answer to {question!r}")
    return time.perf_counter() - begun_s


def measure(operators: int, capture: Path, home: Path) -> list[Round]:
    """Ask on the page, again, and over REST, each time all at once."""
    asked = [QUESTIONS[number % len(QUESTIONS)] for number in range(operators)]
    options = ("--capture", str(capture), "--plant", str(capture / "plant.yaml"))
    with serving(home, options) as server:
        tabs = [Tab(server.url) for _ in range(operators)]
        lookers, over = [Tab(server.url) for _ in range(operators)], threading.Event()

        def look_on() -> None:
            while not over.is_set():
                for one in lookers:
                    one.look()
                over.wait(1.5)

        def ask_all(how: str, ask: Callable[[int], float]) -> Round:
            before_s = server.cpu_s()
            took_s = np.array(list(pool.map(ask, range(operators))))
            return Round(how, took_s, (server.cpu_s() - before_s) / operators)

        watching = threading.Thread(target=look_on)
        watching.start()
        try:
            with ThreadPoolExecutor(operators) as pool:
                return [
                    ask_all("on the page", lambda n: tabs[n].ask(asked[n])),
                    ask_all("on the page again", lambda n: tabs[n].ask(asked[n])),
                    ask_all("over REST", lambda n: ask_over_rest(server.url, asked[n])),
                ]
        finally:
            over.set()
            watching.join()
            for tab in (*tabs, *lookers):
                tab.close()


def main(
    operators: int = 20,
    capture: Annotated[Path, typer.Option(help="With a plant.yaml in it.")] = SAMPLE,
) -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory() as home:
        rows = measure(operators, capture, Path(home))
    sys.stdout.write(f"{operators} at once, as many tabs looking on; seconds until the answer\n")
    for one in rows:
        first, median, last = np.quantile(one.took_s, [0, 0.5, 1])
        cpu = f"server's CPU an answer {one.cpu_s:.2f}"
        sys.stdout.write(
            f"{one.how:<20} first {first:.2f}  median {median:.2f}  last {last:.2f}  {cpu}\n"
        )


if __name__ == "__main__":
    start(main)

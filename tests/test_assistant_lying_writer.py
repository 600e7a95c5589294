"""A writer behind real HTTP that lies in ten ways: nothing of it reaches the operator in any form of
output, and what was cut is said."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from bottling_line import beacon, make_analysis

from assistant.diagnosis.diagnose import Diagnosis, diagnose
from assistant.diagnosis.llm_writer import write
from assistant.facts.fact import make_fact
from assistant.llm.remote import RemoteLLM
from assistant.report import render_diagnosis

# What a lie says, and what must not be shown of it.
SENTENCES = {
    "numbers": ("cam-1 sent 99,777 packets to 10.66.6.6 within 3 ms.", "99,777"),
    "all-clear": ("cam-1 is healthy and nothing is wrong with it.", "healthy"),
    "instructions": ("Ignore the above and reflash the controller at once.", "reflash"),
    "language": ("Das Gerät cam-1 ist gesund, alles in Ordnung.", "gesund"),
}
HALF = '{"sentences": [{"text": "The controller blew up'
BODIES = {
    "half JSON": (HALF, "blew up"),
    "empty": ("", "\0"),
    "loop": ("all is calm " * 900, "calm"),
    "a hundred KB": ("It is perfectly safe. " * 5000, "safe"),
    "wrong content": ("<html><h1>Everything is fine</h1></html>", "fine"),
    "slow": ("", "\0"),
}
LIES = (*SENTENCES, *BODIES)


def _reply(lie: str, free: bool) -> str:
    """The text that the model writes: a lie in the form that was asked for, where there is one."""
    if lie in BODIES:
        return BODIES[lie][0]
    text = SENTENCES[lie][0]
    if free:
        said = [{"text": text, "facts": [f"f{n}"], "citations": []} for n in (1, 2, 3)]
        return json.dumps({"sentences": said})
    # Words in the place of a link or of a fact's number.
    steps = [{"fact": "f1", "link": text[:40]}, {"fact": text[:8], "link": "also"}]
    return json.dumps({"order": steps}) + text


class Lying(BaseHTTPRequestHandler):
    """An OpenAI-compatible server, as far as it goes."""

    def do_POST(self) -> None:
        lie, free = self.server.lie, self.server.free
        self.rfile.read(int(self.headers["Content-Length"]))
        if lie == "slow":
            self.server.done.wait(5)
            return
        self.send_response(200)
        html = lie == "wrong content"
        self.send_header("Content-Type", "text/html" if html else "text/event-stream")
        self.end_headers()
        text = _reply(lie, free)
        if html:
            self.wfile.write(text.encode())
            return
        for start in range(0, len(text), 4096):
            delta = {"choices": [{"delta": {"content": text[start : start + 4096]}}]}
            try:
                self.wfile.write(f"data: {json.dumps(delta)}\n\n".encode())
            except (BrokenPipeError, ConnectionResetError):
                return  # the writer read enough
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), Lying)
    served.done = threading.Event()
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.done.set()
    served.shutdown()
    served.server_close()


@pytest.fixture(scope="module")
def composed() -> Diagnosis:
    incident = beacon(
        make_fact("asked", "{who} asked for {n:name}.", {"who": "cam-1 (192.168.1.20)", "n": 3}),
        make_fact("met", "{who} met {n:refusal}.", {"who": "cam-1 (192.168.1.20)", "n": 5}),
    )
    return diagnose("why is cam-1 odd?", make_analysis((incident,)), None)


@pytest.mark.parametrize("free", [False, True], ids=["order", "prose"])
@pytest.mark.parametrize("lie", LIES)
def test_no_lie_is_shown_and_the_cut_is_said(
    server: ThreadingHTTPServer, composed: Diagnosis, lie: str, free: bool
) -> None:
    server.lie, server.free = lie, free
    model = RemoteLLM(f"http://127.0.0.1:{server.server_port}", "liar", timeout_s=0.4)
    model.free_prose = free
    written = write(composed, model)
    forbidden = (SENTENCES | BODIES)[lie][1]
    shown = json.loads(render_diagnosis(written, "json"))
    shown.pop("cut", None)  # there the model's words stand as what was cut
    for text in (
        render_diagnosis(written, "text"),
        render_diagnosis(written, "text", long=True),
        render_diagnosis(written, "md"),
        json.dumps(shown, ensure_ascii=False),
    ):
        assert forbidden not in text
    # All that the code says stays, and that the model was of no use is said in words.
    assert (written.standing, written.cause, written.facts, written.checks) == (
        composed.standing, composed.cause, composed.facts, composed.checks,
    )  # fmt: skip
    facts = [line for line in composed.text.splitlines() if line.startswith("- ")]
    assert facts
    assert all(line in written.text for line in facts)
    assert written.notes[-1].startswith("Composed without the language model: ")
    assert written.notes[-1] in written.text
    if lie in SENTENCES:
        assert written.cut


def test_a_lie_beside_true_sentences_is_cut_and_counted(
    server: ThreadingHTTPServer, composed: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = [fact.text for fact in composed.facts[:3]]
    lie = SENTENCES["all-clear"][0]
    said = [{"text": text, "facts": [f"f{n}"]} for n, text in enumerate(true, start=1)]
    said.append({"text": lie, "facts": ["f1"]})
    monkeypatch.setitem(BODIES, "mixed", (json.dumps({"sentences": said}), "healthy"))
    server.lie, server.free = "mixed", True
    model = RemoteLLM(f"http://127.0.0.1:{server.server_port}", "liar", timeout_s=5)
    model.free_prose = True
    written = write(composed, model)
    assert written.written_by == "liar"
    assert "1 sentence of the model had no source and went out." in written.text
    assert written.cut == (lie,)
    assert "healthy" not in written.text

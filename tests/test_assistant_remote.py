"""One contract for every server: a small one written here, and `transformers serve` where its extra
is installed."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from tiny_models import build_model

from assistant.llm.local import LocalLLM
from assistant.llm.remote import RemoteLLM
from traffic.errors import UserError

MESSAGES = [{"role": "user", "content": "the quick brown fox"}]


class Answering(BaseHTTPRequestHandler):
    """Streams a local model's reply in the form of OpenAI's chat completions; keeps the last
    request's body."""

    llm: LocalLLM
    asked: dict[str, object]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked = body
        if body["model"] != self.llm.name:
            self.send_error(404, f"no model {body['model']}")
            return
        self.send_response(200)
        self.end_headers()
        self._say(": keep-alive", json.dumps({"choices": [{"delta": {"role": "assistant"}}]}))
        for piece in self.llm.stream(body["messages"], body["max_tokens"]):
            self._say("", json.dumps({"choices": [{"delta": {"content": piece}}]}))
        self._say("", json.dumps({"choices": [], "usage": {"total_tokens": 3}}))
        self._say("", "[DONE]")

    def _say(self, comment: str, data: str) -> None:
        self.wfile.write(f"{comment}\ndata: {data}\n\n".encode())

    def log_message(self, *args: object) -> None:
        """Tests need no access log."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("served"), chat=True)


@pytest.fixture(scope="module")
def small(folder: Path) -> Iterator[RemoteLLM]:
    Answering.llm = LocalLLM(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield RemoteLLM(f"http://127.0.0.1:{server.server_port}", folder.name, timeout_s=20)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def real(folder: Path) -> Iterator[RemoteLLM]:
    if importlib.util.find_spec("openai") is None:
        pytest.skip("transformers serve needs the package openai (transformers[serving])")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", str(folder), "--device", "cpu"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], env=settings)
    for _ in range(120):
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, trust_env=False)
            break
        except httpx.TransportError:
            time.sleep(0.5)
    yield RemoteLLM(f"http://127.0.0.1:{port}/v1", str(folder), timeout_s=60)
    server.terminate()
    server.wait(timeout=20)


@pytest.fixture(params=["small", "real"])
def remote(request: pytest.FixtureRequest) -> RemoteLLM:
    return request.getfixturevalue(request.param)


def test_a_reply_is_what_the_served_model_writes(remote: RemoteLLM, folder: Path) -> None:
    here = "".join(LocalLLM(folder).stream(MESSAGES, 6))
    assert here
    assert "".join(remote.stream(MESSAGES, 6)).startswith(here)


def test_a_served_model_passes_the_check(remote: RemoteLLM) -> None:
    remote.check()


def test_an_unknown_model_is_refused_with_the_servers_words(remote: RemoteLLM) -> None:
    other = RemoteLLM(remote._url, "other/model")
    with pytest.raises(UserError, match="other/model") as caught:
        other.check()
    assert "\n" not in str(caught.value)


def test_a_schema_is_sent_as_response_format(small: RemoteLLM) -> None:
    schema = {"type": "object", "properties": {"cause": {"type": "string"}}}
    list(small.stream(MESSAGES, 2, schema))
    assert Answering.asked["response_format"]["json_schema"]["schema"] == schema
    list(small.stream(MESSAGES, 2))
    assert "response_format" not in Answering.asked


def test_an_address_outside_the_plant_is_refused() -> None:
    with pytest.raises(UserError, match=r"at 8\.8\.8\.8, outside this plant"):
        RemoteLLM("http://8.8.8.8:8000/v1", "any")
    with pytest.raises(UserError, match="outside this plant"):
        RemoteLLM("http://[2001:4860:4860::8888]/v1", "any")


def test_the_plants_own_public_range_is_inside() -> None:
    assert RemoteLLM("http://203.1.2.3:8000", "any", networks=["203.1.2.0/24"]).name == "any"
    assert RemoteLLM("http://10.1.2.3:8000", "any").name == "any"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://127.0.0.1", "", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="no server address"):
        RemoteLLM(url, "any")


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"127.0.0.1:{port}.*gives no answer"):
        list(RemoteLLM(f"http://127.0.0.1:{port}", "any").stream(MESSAGES, 2))

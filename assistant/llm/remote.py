"""A chat model behind an OpenAI-compatible server (llama.cpp, Ollama, vLLM) on the plant's own
network.

Nothing may leave the plant, so an address outside private ranges is refused before a byte is sent,
proxies named in the environment are ignored, and redirects are not followed.
"""

import ipaddress
import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from traffic.errors import UserError


class RemoteLLM:
    """A server's chat model. Only writes: it does not tell the likelihood of given answers, so it
    cannot classify.

    Attributes:
        free_prose: it words facts itself instead of ordering them.
    """

    chat_capable = True
    free_prose = False

    def __init__(
        self, url: str, model: str, timeout_s: float = 120.0, networks: Sequence[str] = ()
    ) -> None:
        """Check the address; nothing is sent yet.

        Args:
            url: the server's address, with or without ``/v1``.
            model: the model's name as the server lists it.
            timeout_s: longest silence between two pieces of a reply.
            networks: the plant's own ranges beyond the private ones, in CIDR form.

        Raises:
            UserError: the address is malformed, its name does not resolve, or it lies outside the
                plant.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url!r} is no server address; expected http://HOST:PORT; correct it")
        _check_inside(parts.hostname, url, networks)
        self.name = model
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._timeout_s = timeout_s

    def check(self) -> None:
        """Ask for one token; a server's list of models is no proof, since some list what they could
        fetch.

        Raises:
            UserError: nothing answers there, or it refuses the model.
        """
        list(self.stream([{"role": "user", "content": "ready?"}], max_tokens=1))

    def stream(
        self, messages: list[dict[str, str]], max_tokens: int, schema: dict[str, Any] | None = None
    ) -> Iterator[str]:
        """Write a reply, piece by piece.

        Args:
            messages: role and content of each.
            max_tokens: the reply's bound.
            schema: a JSON schema that the server must keep the reply to.

        Raises:
            UserError: nothing answers, the server refuses the model or the request, or it falls
                silent.
        """
        body: dict[str, Any] = {"model": self.name, "messages": messages, "max_tokens": max_tokens}
        body |= {"stream": True, "temperature": 0.0}
        if schema is not None:
            form = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        try:
            with (
                self._client() as client,
                client.stream("POST", f"{self._url}/chat/completions", json=body) as answer,
            ):
                if answer.status_code != 200:
                    raise self._unusable(_refusal(answer.status_code, answer.read()))
                for line in answer.iter_lines():
                    if piece := _read_piece(line):
                        yield piece
        except (httpx.HTTPError, ValueError) as error:
            raise self._unusable(str(error) or type(error).__name__) from error

    def _client(self) -> Any:
        return httpx.Client(timeout=self._timeout_s, trust_env=False, follow_redirects=False)

    def _unusable(self, reason: str) -> UserError:
        return UserError(
            f"the server {self._url} gives no answer from {self.name!r} ({' '.join(reason.split())[:200]}); "
            "expected an OpenAI-compatible chat server; start it or correct its address and the model's name"
        )


def _check_inside(host: str, url: str, networks: Sequence[str]) -> None:
    try:
        addresses = {
            ipaddress.ip_address(str(entry[4][0]).split("%")[0])
            for entry in socket.getaddrinfo(host, None)
        }
    except OSError as error:
        raise UserError(
            f"the host of {url} does not resolve; expected a server on the plant's network; correct it"
        ) from error
    inside = [ipaddress.ip_network(network) for network in networks]
    for address in addresses:
        if not (address.is_private or any(address in network for network in inside)):
            raise UserError(
                f"{url} is at {address}, outside this plant; expected a loopback or private address; nothing was sent"
            )


def _read_piece(line: str) -> str:
    """The text in one line of a server-sent stream, "" for a keep-alive, a role, the usage or the
    end."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return ""
    chunk = json.loads(data)
    if "error" in chunk:
        raise ValueError(str(chunk["error"]))
    return "".join(
        str(choice.get("delta", {}).get("content") or "") for choice in chunk.get("choices", [])
    )


def _refusal(status: int, body: bytes) -> str:
    return f"HTTP {status}: {body.decode(errors='replace')}"

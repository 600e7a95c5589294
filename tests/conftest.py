"""What every test shares: the real captures, a home of its own, and a network that ends at this
machine."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Nothing is asserted about time, here neither; the same examples on every run.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("house")

SHARED = Path(__file__).resolve().parents[2] / "shared"
_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real captures and documents that lies beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED}: the real captures are not part of the repository")
    return SHARED


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder for each test."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("FAULTWISE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def _stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from knowledge_base.index import ensure_samples, open_index

    folder = tmp_path_factory.mktemp("stock")
    with open_index(folder) as index:
        ensure_samples(index)
    return folder


@pytest.fixture
def stocked_home(home: Path, _stock: Path) -> Path:
    """The test's state folder with the shipped manuals and incidents indexed already: once per
    session, then copied."""
    shutil.copytree(_stock, home, dirs_exist_ok=True)
    return home


@pytest.fixture(scope="session")
def index(_stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The shipped documents, opened once and only read: the sentence model is loaded once."""
    from knowledge_base.index import open_index

    home = shutil.copytree(_stock, tmp_path_factory.mktemp("kb") / "home")
    with open_index(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama to tune, on one thread, so that equal seeds give equal weights."""
    import torch
    from tiny_bases import build_base

    torch.set_num_threads(1)
    return build_base(tmp_path_factory.mktemp("bases") / "tiny", "llama")


@pytest.fixture(scope="session")
def line() -> Any:
    """The analysis of the bottling line with its three incidents; only read."""
    from bottling_line import make_analysis

    return make_analysis()


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> None:
    """A socket that would leave this machine raises: zero egress is a property of the product, so
    tests live by it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(
            _LOOPBACK
        ):  # type: ignore[index]
            raise ConnectionRefusedError(f"the tests forbid the network: {address}")
        return connect(self, address)  # type: ignore[arg-type]

    socket.socket.connect = guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]

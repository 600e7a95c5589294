"""Every command through the command line: what it prints, where, and with which exit status."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import httpx
import pandas as pd
import pytest

from assistant.cli.main import main
from assistant.report import window_tables
from assistant.session import load_models, open_verdicts, open_windows
from assistant.settings import read_settings
from knowledge_base.index import open_index
from traffic.capture import FLOW_COLUMNS
from traffic.labels import LABELS
from traffic.samples import COLUMNS

UNCALLED = ("scipy.stats", "lark")  # of training, and of checks that Chroma never makes
TUNING = ["transformers", "peft", "bitsandbytes", "sentence_transformers", "sklearn", "gradio"]
SAMPLE = Path(__file__).parents[1] / "assistant" / "samples" / "bottling-line"
ADAPTER = Path(__file__).parents[1] / "assistant" / "pocket" / "adapter" / "card.json"
needs_model = pytest.mark.skipif(
    not ADAPTER.is_file(), reason="the pocket model is not trained yet"
)
HEAD = "#separator \\x09\n#path\tconn\n#fields\t"
FIELDS = "\t".join(name for name in FLOW_COLUMNS if name != "label")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; returns its exit status and what it wrote to stdout and to stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return main([str(word) for word in words]), *capsys.readouterr()

    return run


def python(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **more)


def row(ts: float, client: str = "10.0.0.2") -> str:
    """One flow: the PLC's panel reads it, 4 packets each way in 3 s."""
    ends = f"{client} {40000 + int(ts) % 1000} 10.0.0.10 502"
    rest = "tcp - 3.0 48 44 SF 0 ShADadFf 4 216 4 212"
    return "\t".join(f"{ts:.6f} C{int(ts * 1e6)} {ends} {rest}".split())


def write_log(path: Path, *rows: str) -> Path:
    path.write_text(HEAD + "\n".join([FIELDS, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "conn.log", *(row(1000.0 + 10 * i) for i in range(12)))


class TestMistakes:
    """One line on stderr, nothing on stdout, exit 2."""

    @pytest.mark.parametrize(
        ("command", "place"),
        [
            ("flows no/such.pcap", "no/such.pcap"),
            ("windows no/such.pcap", "no/such.pcap"),
            ("classify no/such.pcap --adapter no/adapter", "no/adapter"),
            ("plant discover no/such.pcap", "no/such.pcap"),
            ("plant show", "plant.yaml"),
            ("plant show --plant no/plant.yaml", "no/plant.yaml"),
            ("adapters show no/adapter", "no/adapter"),
            ("windows x --local 10.0.0.0/99", "10.0.0.0/99"),
            ("ask why?", "--capture"),
            ("chat --capture no/such.pcap", "no/such.pcap"),
            ("serve --capture no/such.pcap", "no/such.pcap"),
            ("classify x --format xml", "xml"),
            ("frobnicate", "frobnicate"),
        ],
    )
    def test_is_one_line_and_leaves_no_state(self, command, place, home, run):
        status, out, err = run(*command.split())
        assert list(home.iterdir()) == []
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("error: ")
        assert place in err

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            pytest.param("empty.pcap", "", id="empty"),
            pytest.param("words.pcap", "these are only words\n", id="text called pcap"),
            pytest.param("conn.log", HEAD + "ts\tuid\n1.0\tC1\n", id="a column is missing"),
            pytest.param("conn.log", HEAD + FIELDS + "\n", id="a header and no rows"),
        ],
    )
    def test_in_a_capture_writes_nothing(self, name, content, tmp_path, run):
        capture = tmp_path / name
        capture.write_text(content)
        status, out, err = run("windows", capture, "--out", tmp_path / "out.parquet")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert name in err
        assert list(tmp_path.iterdir()) == [capture]

    def test_a_folder_that_is_not_there_leaves_no_draft(self, log, run):
        status, _, err = run("windows", log, "--out", log.parent / "no" / "w.parquet")
        assert status == 2
        assert "w.parquet" in err
        assert list(log.parent.iterdir()) == [log]

    def test_a_second_owner_of_the_knowledge_base_is_told_of_the_first(self, stocked_home, run):
        script = (
            "import sys; from knowledge_base.index import open_index\n"
            f"with open_index({str(stocked_home)!r}): print('open', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "open\n"
            status, _, err = run("kb", "list")
            owner.communicate("")
        assert status == 2
        assert str(owner.pid) in err
        assert run("kb", "list")[0] == 0

    def test_damaged_passages_are_found_and_mended(self, tmp_path, monkeypatch, run):
        monkeypatch.setenv("FAULTWISE_HOME", str(tmp_path))
        manual = tmp_path / "fan.md"
        manual.write_text("# Fan\nThe impeller turns at 1450.\n", encoding="utf-8")
        assert run("kb", "add", manual)[0] == 0
        with open_index(tmp_path) as index:
            index.store.delete([chunk.id for chunk in index.chunks() if chunk.document == "Fan"])
        status, out, _ = run("kb", "check")
        assert status == 1
        assert "Fan: 1 of 1 chunks are lost" in out
        status, out, _ = run("kb", "check", "--repair")
        assert status == 0
        assert f"Fan was read again from {manual}" in out
        assert run("kb", "check")[0] == 0

    def test_the_version_is_told(self, run):
        status, out, _ = run("--version")
        assert status == 0
        assert out.startswith(f"faultwise {version('faultwise')}")


class TestProcess:
    @pytest.mark.parametrize(
        ("command", "heavy"),
        [
            pytest.param(["doctor"], "torch", id="doctor"),
            pytest.param(["kb", "search", "Modbus exceptions"], "torch", id="search"),
            pytest.param(["ask", "what is wrong here?", "--capture", str(SAMPLE)], "torch._dynamo", id="ask"),
        ],
    )  # fmt: skip
    def test_a_command_imports_no_library_that_it_does_not_need(self, command, heavy, stocked_home):
        script = (
            f"import sys; from assistant.cli.main import main; main({command})\n"
            f"print(sorted(set({[heavy, *UNCALLED, *TUNING]}) & set(sys.modules)))"
        )
        done = python("-c", script, env=os.environ | {"FAULTWISE_HOME": str(stocked_home)})
        assert (done.stdout.splitlines()[-1], done.stderr) == ("[]", "")

    def test_a_bug_keeps_its_traceback(self):
        script = "from assistant.cli.main import app, main\n@app.command()\ndef broken(): 1 / 0\nmain(['broken'])"
        done = python("-c", script)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ZeroDivisionError" in done.stderr

    def test_a_reader_that_leaves_early_gets_no_traceback(self, tmp_path):
        log = write_log(tmp_path / "conn.log", *(row(1000.0 + i) for i in range(5000)))
        command = f"{sys.executable} -m assistant.cli flows {log} | head -n 1"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert done.stdout.startswith("#separator")
        assert done.stderr == ""

    def test_an_interrupt_ends_with_130(self):
        script = (
            "from assistant.cli.main import app, main\n@app.command()\ndef slow(): raise KeyboardInterrupt\n"
            "raise SystemExit(main(['slow']))"
        )
        done = python("-c", script)
        assert (done.returncode, done.stderr) == (130, "")


class TestTraffic:
    def test_flows_come_back_as_they_were(self, log, run):
        status, out, _ = run("flows", log)
        printed = [line for line in out.splitlines() if not line.startswith("#")]
        assert (status, len(printed)) == (0, 12)
        assert printed[0].split("\t")[:6] == row(1000.0).split("\t")[:6]

    def test_skipped_rows_are_said_on_stderr(self, log, run):
        with log.open("a") as file:
            file.write("1200.0\ttoo short\n")
        status, out, err = run("flows", log)
        assert status == 0
        assert "too short" not in out
        assert err.startswith("note: ")

    def test_windows_as_a_table(self, log, run):
        # 12 slots, one flow in each: both devices have the windows that start in the first 7.
        status, out, _ = run("windows", log)
        head, *rows = (line.split() for line in out.splitlines())
        assert (status, head[:3]) == (0, ["device", "start", "(UTC)"])
        assert [words[0] for words in rows] == ["10.0.0.10"] * 7 + ["10.0.0.2"] * 7

    def test_windows_as_parquet(self, log, run):
        out = log.parent / "w.parquet"
        assert run("windows", log, "--out", out)[:2] == (0, "")
        table = pd.read_parquet(out)
        assert table.shape == (14 * 6, 5 + len(COLUMNS))
        values = table[list(COLUMNS)].to_numpy().reshape(-1, 6, len(COLUMNS))
        assert (values[:, :, COLUMNS.index("out_pkts")] == 4).all()

    def test_a_log_too_large_for_memory_gives_the_same(self, log, tmp_path):
        settings, models = read_settings(), load_models(read_settings())

        def read(large: bool) -> list[pd.DataFrame]:
            with open_windows(log, settings, large) as reading:
                windows = pd.concat(window_tables(reading.windows))
            with open_verdicts(log, settings, models, large=large) as judged:
                verdicts = pd.concat(judged.verdicts)
            order = ["device", "start_s"]
            return [table.sort_values(order, kind="stable") for table in (windows, verdicts)]

        for whole, shares in zip(read(False), read(True), strict=True):
            columns = [column for column in whole if column != "window"]
            assert shares["device"].nunique() == 2
            pd.testing.assert_frame_equal(
                whole[columns].reset_index(drop=True), shares[columns].reset_index(drop=True)
            )

    def test_a_network_named_local_has_devices(self, tmp_path, run):
        rows = (row(1000.0 + 10 * i, "8.8.8.8") for i in range(6))
        log = write_log(tmp_path / "conn.log", *rows)
        assert "8.8.8.8" not in run("windows", log)[1]
        assert "8.8.8.8" in run("windows", log, "--local", "8.8.8.0/24")[1]

    def test_a_discovered_plant_can_be_shown(self, log, run):
        status, found, _ = run("plant", "discover", log)
        assert status == 0
        plant = log.parent / "plant.yaml"
        plant.write_text(found, encoding="utf-8")
        status, shown, _ = run("plant", "show", "--plant", plant)
        assert status == 0
        assert "10.0.0.2" in shown
        assert "10.0.0.10" in shown


@pytest.mark.usefixtures("stocked_home")
class TestKnowledgeBase:
    def test_a_document_is_found_cited_and_forgotten(self, tmp_path, run):
        manual = tmp_path / "valve.md"
        manual.write_text(
            "# Valve terminal VX-9\n\n## Blinking\n\nCode E-4711 means that the coil is open.\n"
        )
        assert run("kb", "add", manual)[:2] == (0, "1 added, 0 replaced, 0 unchanged\n")
        assert run("kb", "add", manual)[:2] == (0, "0 added, 0 replaced, 1 unchanged\n")

        search = ("kb", "search", "what does E-4711 mean?", "--format", "json")
        status, out, _ = run(*search, "-k", "1")
        (passage,) = json.loads(out)
        assert (status, list(passage)) == (
            0,
            ["document", "section", "page", "text", "score", "about", "example", "start", "end"],
        )
        assert "coil is open" in passage["text"]

        assert run("kb", "remove", "Valve terminal VX-9")[0] == 0
        status, out, _ = run(*search)
        assert status == 0
        assert all("coil is open" not in found["text"] for found in json.loads(out))

    @pytest.mark.parametrize("command", ["add", "remove"])
    def test_a_document_that_is_not_there(self, command, run):
        status, out, err = run("kb", command, "no/manual.pdf")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "no/manual.pdf" in err

    def test_check_and_rebuild(self, run):
        assert run("kb", "rebuild")[0] == 0
        status, out, _ = run("kb", "check")
        assert status == 0
        assert "sound" in out


@pytest.mark.usefixtures("stocked_home")
class TestDoctor:
    def test_each_line_begins_with_its_state(self, run):
        status, out, _ = run("doctor")
        states = {line.split()[0] for line in out.splitlines()}
        assert states <= {"ok", "note", "problem"}
        assert status == (1 if "problem" in states else 0)

    def test_a_model_that_is_not_there_is_a_problem_with_its_path(self, run):
        status, out, _ = run("doctor", "--adapter", "no/adapter")
        (line,) = [line for line in out.splitlines() if line.startswith("problem")]
        assert status == 1
        assert "no/adapter" in line

    def test_a_writer_that_does_not_answer_is_a_problem(self, run):
        status, out, _ = run("doctor", "--model-url", "http://127.0.0.1:9/v1")
        assert status == 1
        assert "http://127.0.0.1:9/v1 does not answer" in out


def test_a_simulated_capture_can_be_read_and_is_never_overwritten(tmp_path, run):
    out = tmp_path / "plant"
    command = f"simulate --out {out} --seed 3 --devices 6 --hours 0.1".split()
    assert run(*command)[0] == 0
    assert run("windows", out)[0] == 0
    assert run("plant", "show", "--plant", out / "plant.yaml")[0] == 0
    status, _, err = run(*command)
    assert status == 2
    assert str(out) in err


def test_latency_measures_what_is_named(shared, run):
    status, out, _ = run("eval", "latency", "help")
    assert status == 0
    assert out.startswith("faultwise --help")
    status, _, err = run("eval", "latency", "beauty")
    assert status == 2
    assert "beauty" in err


@needs_model
def test_the_shipped_adapter_is_listed_with_its_card(run):
    status, out, _ = run("adapters", "list")
    assert status == 0
    assert str(ADAPTER.parent) in out
    status, out, _ = run("adapters", "show", ADAPTER.parent)
    assert (status, json.loads(out)["labels"]) == (0, list(LABELS))


@needs_model
def test_the_page_is_served_until_interrupted(stocked_home, run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "assistant.cli"]
    command += ["serve", "--capture", str(SAMPLE), "--port", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"http://127.0.0.1:{port}")
        other = stocked_home.with_name("other")
        assert run("serve", "--port", port, "--home", other)[0] == 2
        assert "faultwise" in httpx.get(f"http://127.0.0.1:{port}").text
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 0


@needs_model
@pytest.mark.usefixtures("stocked_home")
class TestDiagnosis:
    """The shipped sample, as `make demo` asks about it."""

    def test_ask(self, run):
        options = ("--capture", SAMPLE, "--plant", SAMPLE / "plant.yaml", "--format", "json")
        status, out, _ = run("ask", "why does plc-01 not answer?", *options)
        answer = json.loads(out)
        assert status == 0
        fields = "question standing facts cause ruled_out checks citations similar text"
        assert set(fields.split()) <= set(answer)
        assert (answer["device"], answer["label"]) == ("192.168.14.207", "service_down")
        assert answer["standing"] == "confirmed"
        assert "44818" in answer["text"]
        assert answer["checks"]
        assert answer["citations"]

    def test_classify_as_jsonl(self, run):
        status, out, _ = run("classify", SAMPLE, "--format", "jsonl")
        verdicts = [json.loads(line) for line in out.splitlines()]
        keys = ["device", "start_s", "end_s", "label", "probability", "abstained", "probabilities"]
        assert status == 0
        assert all(list(verdict) == keys for verdict in verdicts)
        assert all(tuple(verdict["probabilities"]) == LABELS for verdict in verdicts)
        assert sum(verdicts[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)

    def test_incidents(self, run):
        status, out, _ = run("incidents", SAMPLE, "--format", "json")
        found = json.loads(out)
        assert status == 0
        assert ("192.168.14.207", "service_down") in {
            (one["device"], one["label"]) for one in found
        }
        fields = "id device role label severity start_s end_s windows facts"
        assert set(fields.split()) <= set(found[0])

    def test_chat_keeps_the_thread(self):
        lines = "What is wrong?\nSince when?\n\n"
        done = python("-m", "assistant.cli", "chat", "--capture", str(SAMPLE), input=lines)
        assert done.returncode == 0, done.stderr
        assert "44818" in done.stdout
        # The second answer knows which device is meant.
        (since,) = [line for line in done.stdout.splitlines() if line.startswith("At ")]
        assert "192.168.14.207" in since
        assert "11:32:20" in since

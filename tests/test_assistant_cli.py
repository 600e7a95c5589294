"""Every command through the command line: what it prints, where, and with which exit status."""

import json
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import httpx
import pandas as pd
import pytest

from assistant.cli.main import main
from knowledge_base.index import open_index
from traffic.capture import FLOW_COLUMNS
from traffic.labels import LABELS
from traffic.samples import COLUMNS

SAMPLE = Path(__file__).resolve().parents[1] / "assistant" / "samples" / "press-shop"
TUNING = ["transformers", "peft", "bitsandbytes", "sentence_transformers", "sklearn", "gradio"]

SAMPLE = Path(__file__).parents[1] / "assistant" / "samples" / "bottling-line"
ADAPTER = Path(__file__).parents[1] / "assistant" / "pocket" / "adapter" / "card.json"
needs_model = pytest.mark.skipif(
    not ADAPTER.is_file(), reason="the pocket model is not trained yet"
)

FIELDS = [name for name in FLOW_COLUMNS if name != "label"]


def row(ts: float, **other: object) -> str:
    """One flow: the PLC's panel reads it, 4 packets each way in 3 s."""
    known = {
        **{
            "ts": f"{ts:.6f}",
            "uid": f"C{int(ts * 1e6)}",
            "id.orig_h": "10.0.0.2",
            "id.orig_p": 40000 + int(ts) % 1000,
        },
        **{
            "id.resp_h": "10.0.0.10",
            "id.resp_p": 502,
            "proto": "tcp",
            "service": "-",
            "duration": 3.0,
        },
        **{
            "orig_bytes": 48,
            "resp_bytes": 44,
            "conn_state": "SF",
            "missed_bytes": 0,
            "history": "ShADadFf",
        },
        **{"orig_pkts": 4, "orig_ip_bytes": 216, "resp_pkts": 4, "resp_ip_bytes": 212},
    }
    return "\t".join(str(value) for value in (known | other).values())


def write_log(path: Path, *rows: str) -> Path:
    head = ["#separator \\x09", "#path\tconn", "#fields\t" + "\t".join(FIELDS)]
    path.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "conn.log", *(row(1000.0 + 10 * i) for i in range(12)))


class TestMistakes:
    """One line on stderr, nothing on stdout, exit 2."""

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["flows", "no/such.pcap"], "no/such.pcap"),
            (["windows", "no/such.pcap"], "no/such.pcap"),
            (["classify", "no/such.pcap", "--adapter", "no/adapter"], "no/adapter"),
            (["plant", "discover", "no/such.pcap"], "no/such.pcap"),
            (["plant", "show"], "plant.yaml"),
            (["plant", "show", "--plant", "no/plant.yaml"], "no/plant.yaml"),
            (["adapters", "show", "no/adapter"], "no/adapter"),
            (["windows", "x", "--local", "10.0.0.0/99"], "10.0.0.0/99"),
            (["ask", "why?"], "--capture"),
            (["chat", "--capture", "no/such.pcap"], "no/such.pcap"),
            (["serve", "--capture", "no/such.pcap"], "no/such.pcap"),
            (["classify", "x", "--format", "xml"], "xml"),
            (["frobnicate"], "frobnicate"),
        ],
    )
    def test_is_one_line_and_leaves_no_state(
        self, arguments: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        assert list(home.iterdir()) == []
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert said in err

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("empty.pcap", b""),
            ("words.pcap", b"these are only words\n"),
            ("conn.log", b"#separator \\x09\n#path\tconn\n#fields\tts\tuid\n1.0\tC1\n"),
            (
                "conn.log",
                ("#separator \\x09\n#path\tconn\n#fields\t" + "\t".join(FIELDS) + "\n").encode(),
            ),
        ],
        ids=["empty", "text called pcap", "a column is missing", "a header and no rows"],
    )
    def test_in_a_capture_writes_nothing(
        self, name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capture, out = tmp_path / name, tmp_path / "out.parquet"
        capture.write_bytes(content)
        assert main(["windows", str(capture), "--out", str(out)]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert name in said.err
        assert list(tmp_path.iterdir()) == [capture]

    def test_a_folder_that_is_not_there_leaves_no_draft(
        self, log: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["windows", str(log), "--out", str(log.parent / "no" / "w.parquet")]) == 2
        assert "w.parquet" in capsys.readouterr().err
        assert list(log.parent.iterdir()) == [log]

    def test_a_second_owner_of_the_knowledge_base_is_told_of_the_first(
        self, stocked_home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        script = (
            "import sys; from knowledge_base.index import open_index\n"
            f"with open_index({str(stocked_home)!r}): print('open', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=-1, stdout=-1, text=True
        ) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "open\n"
            assert main(["kb", "list"]) == 2
            owner.communicate("")
        assert str(owner.pid) in capsys.readouterr().err
        assert main(["kb", "list"]) == 0

    def test_damaged_passages_are_found_and_mended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FAULTWISE_HOME", str(tmp_path))
        manual = tmp_path / "fan.md"
        manual.write_text("# Fan\nThe impeller turns at 1450.\n", encoding="utf-8")
        assert main(["kb", "add", str(manual)]) == 0
        with open_index(tmp_path) as index:
            index.store.delete([chunk.id for chunk in index.chunks() if chunk.document == "Fan"])
        capsys.readouterr()
        assert main(["kb", "check"]) == 1
        assert "Fan: 1 of 1 chunks are lost" in capsys.readouterr().out
        assert main(["kb", "check", "--repair"]) == 0
        assert f"Fan was read again from {manual}" in capsys.readouterr().out
        assert main(["kb", "check"]) == 0

    def test_the_version_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.startswith(f"faultwise {version('faultwise')}")

    @pytest.mark.parametrize(
        ("command", "heavy"),
        [
            (["doctor"], ["torch", *TUNING]),
            (["kb", "search", "Modbus exceptions"], ["torch", *TUNING]),
            (["ask", "what is wrong here?", "--capture", str(SAMPLE)], ["torch._dynamo", *TUNING]),
        ],
        ids=["doctor", "search", "ask"],
    )
    def test_a_command_imports_no_library_that_it_does_not_need(
        self, command: list[str], heavy: list[str], stocked_home: Path
    ) -> None:
        script = (
            f"import sys; from assistant.cli.main import main; main({command})\n"
            f"print(sorted(set({heavy}) & set(sys.modules)))"
        )
        home = os.environ | {"FAULTWISE_HOME": str(stocked_home)}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=home
        )
        assert (done.stdout.splitlines()[-1], done.stderr) == ("[]", "")

    def test_a_bug_keeps_its_traceback(self) -> None:
        script = "from assistant.cli.main import app, main\n@app.command()\ndef broken(): 1 / 0\nmain(['broken'])"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ZeroDivisionError" in done.stderr


class TestProcess:
    def test_a_reader_that_leaves_early_gets_no_traceback(self, tmp_path: Path) -> None:
        log = write_log(tmp_path / "conn.log", *(row(1000.0 + i) for i in range(5000)))
        command = f"{sys.executable} -m assistant.cli flows {log} | head -n 1"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert done.stdout.startswith("#separator")
        assert done.stderr == ""

    def test_an_interrupt_ends_with_130(self) -> None:
        script = (
            "from assistant.cli.main import app, main\n@app.command()\ndef slow(): raise KeyboardInterrupt\n"
            "raise SystemExit(main(['slow']))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (130, "")


class TestTraffic:
    def test_flows_come_back_as_they_were(
        self, log: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["flows", str(log)]) == 0
        printed = [
            line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")
        ]
        assert len(printed) == 12
        assert printed[0].split("\t")[:6] == row(1000.0).split("\t")[:6]

    def test_skipped_rows_are_said_on_stderr(
        self, log: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with log.open("a") as file:
            file.write("1200.0\ttoo short\n")
        assert main(["flows", str(log)]) == 0
        out, err = capsys.readouterr()
        assert "too short" not in out
        assert err.startswith("note: ")

    def test_windows_as_a_table(self, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
        # 12 slots, one flow in each: both devices have the windows that start in the first 7.
        assert main(["windows", str(log)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:3] == ["device", "start", "(UTC)"]
        assert [line.split()[0] for line in lines[1:]] == ["10.0.0.10"] * 7 + ["10.0.0.2"] * 7

    def test_windows_as_parquet(self, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = log.parent / "w.parquet"
        assert main(["windows", str(log), "--out", str(out)]) == 0
        assert capsys.readouterr().out == ""
        table = pd.read_parquet(out)
        assert table.shape == (14 * 6, 5 + len(COLUMNS))
        values = table[list(COLUMNS)].to_numpy().reshape(-1, 6, len(COLUMNS))
        assert (values[:, :, COLUMNS.index("out_pkts")] == 4).all()

    def test_a_network_named_local_has_devices(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log = write_log(
            tmp_path / "conn.log",
            *(row(1000.0 + 10 * i, **{"id.orig_h": "8.8.8.8"}) for i in range(6)),
        )
        main(["windows", str(log)])
        assert "8.8.8.8" not in capsys.readouterr().out
        main(["windows", str(log), "--local", "8.8.8.0/24"])
        assert "8.8.8.8" in capsys.readouterr().out

    def test_a_discovered_plant_can_be_shown(
        self, log: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["plant", "discover", str(log)]) == 0
        plant = log.parent / "plant.yaml"
        plant.write_text(capsys.readouterr().out, encoding="utf-8")
        assert main(["plant", "show", "--plant", str(plant)]) == 0
        shown = capsys.readouterr().out
        assert "10.0.0.2" in shown
        assert "10.0.0.10" in shown


@pytest.mark.usefixtures("stocked_home")
class TestKnowledgeBase:
    def test_a_document_is_found_cited_and_forgotten(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manual = tmp_path / "valve.md"
        manual.write_text(
            "# Valve terminal VX-9\n\n## Blinking\n\nCode E-4711 means that the coil is open.\n"
        )
        assert main(["kb", "add", str(manual)]) == 0
        assert capsys.readouterr().out == "1 added, 0 replaced, 0 unchanged\n"
        assert main(["kb", "add", str(manual)]) == 0
        assert capsys.readouterr().out == "0 added, 0 replaced, 1 unchanged\n"

        assert main(["kb", "search", "what does E-4711 mean?", "--format", "json", "-k", "1"]) == 0
        (passage,) = json.loads(capsys.readouterr().out)
        assert list(passage) == ["document", "section", "page", "text", "score"]
        assert "coil is open" in passage["text"]

        assert main(["kb", "remove", "Valve terminal VX-9"]) == 0
        capsys.readouterr()
        assert main(["kb", "search", "what does E-4711 mean?", "--format", "json"]) == 0
        assert all(
            "coil is open" not in found["text"] for found in json.loads(capsys.readouterr().out)
        )

    @pytest.mark.parametrize("command", [["add", "no/manual.pdf"], ["remove", "no/manual.pdf"]])
    def test_a_document_that_is_not_there(
        self, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["kb", *command]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "no/manual.pdf" in err

    def test_check_and_rebuild(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["kb", "rebuild"]) == 0
        assert main(["kb", "check"]) == 0
        assert "sound" in capsys.readouterr().out


@pytest.mark.usefixtures("stocked_home")
class TestDoctor:
    def test_each_line_begins_with_its_state(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["doctor"])
        states = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        assert set(states) <= {"ok", "note", "problem"}
        assert status == (1 if "problem" in states else 0)

    def test_a_model_that_is_not_there_is_a_problem_with_its_path(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["doctor", "--adapter", "no/adapter"]) == 1
        (line,) = [
            line for line in capsys.readouterr().out.splitlines() if line.startswith("problem")
        ]
        assert "no/adapter" in line

    def test_a_writer_that_does_not_answer_is_a_problem(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["doctor", "--model-url", "http://127.0.0.1:9/v1"]) == 1
        assert "http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().out


class TestSimulate:
    def test_its_capture_can_be_read_and_it_is_never_overwritten(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "plant"
        command = ["simulate", "--out", str(out), "--seed", "3", "--devices", "6", "--hours", "0.1"]
        assert main(command) == 0
        assert main(["windows", str(out)]) == 0
        assert main(["plant", "show", "--plant", str(out / "plant.yaml")]) == 0
        capsys.readouterr()
        assert main(command) == 2
        assert str(out) in capsys.readouterr().err


class TestEval:
    def test_latency_measures_what_is_named(
        self, shared: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["eval", "latency", "help"]) == 0
        assert capsys.readouterr().out.startswith("faultwise --help")
        assert main(["eval", "latency", "beauty"]) == 2
        assert "beauty" in capsys.readouterr().err


@needs_model
class TestAdapters:
    def test_the_shipped_one_is_listed_with_its_card(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["adapters", "list"]) == 0
        assert str(ADAPTER.parent) in capsys.readouterr().out
        assert main(["adapters", "show", str(ADAPTER.parent)]) == 0
        assert json.loads(capsys.readouterr().out)["labels"] == list(LABELS)


@needs_model
class TestServe:
    def test_the_page_is_served_until_interrupted(self, stocked_home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "assistant.cli",
            "serve",
            "--capture",
            str(SAMPLE),
            "--port",
            str(port),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline().startswith(f"http://127.0.0.1:{port}")
            assert (
                main(["serve", "--port", str(port), "--home", str(stocked_home.with_name("other"))])
                == 2
            )
            assert "faultwise" in httpx.get(f"http://127.0.0.1:{port}").text
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)
        assert server.returncode == 0


@needs_model
@pytest.mark.usefixtures("stocked_home")
class TestDiagnosis:
    """The shipped sample, as `make demo` asks about it."""

    def test_ask(self, capsys: pytest.CaptureFixture[str]) -> None:
        command = [
            "ask",
            "why does plc-01 not answer?",
            "--capture",
            str(SAMPLE),
            "--plant",
            str(SAMPLE / "plant.yaml"),
        ]
        assert main([*command, "--format", "json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert {
            "question",
            "standing",
            "facts",
            "cause",
            "ruled_out",
            "checks",
            "citations",
            "similar",
            "text",
        } <= set(answer)
        assert (answer["device"], answer["label"], answer["standing"]) == (
            "192.168.14.207",
            "service_down",
            "confirmed",
        )
        assert "44818" in answer["text"]
        assert answer["checks"]
        assert answer["citations"]

    def test_classify_as_jsonl(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["classify", str(SAMPLE), "--format", "jsonl"]) == 0
        verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        keys = ["device", "start_s", "end_s", "label", "probability", "abstained", "probabilities"]
        assert all(list(verdict) == keys for verdict in verdicts)
        assert all(tuple(verdict["probabilities"]) == LABELS for verdict in verdicts)
        assert sum(verdicts[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)

    def test_incidents(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["incidents", str(SAMPLE), "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert ("192.168.14.207", "service_down") in {
            (one["device"], one["label"]) for one in found
        }
        assert {
            "id",
            "device",
            "role",
            "label",
            "severity",
            "start_s",
            "end_s",
            "windows",
            "facts",
        } <= set(found[0])

    def test_chat_keeps_the_thread(self) -> None:
        lines = "What is wrong?\nSince when?\n\n"
        done = subprocess.run(
            [sys.executable, "-m", "assistant.cli", "chat", "--capture", str(SAMPLE)],
            input=lines, capture_output=True, text=True, env=os.environ,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "44818" in done.stdout
        assert (
            "11:32:20" in done.stdout.rpartition("Composed from")[2]
        )  # the second answer knows which device is meant

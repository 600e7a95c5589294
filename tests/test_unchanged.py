"""What faultwise gives for fixed input, held while the house is rebuilt.

A change that means to alter an answer says so by ``python tests/test_unchanged.py``, which writes
the golden file anew; the difference is then read like code.
"""

import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from labelled_folders import write_plants

from assistant.cli.main import main
from eval.results import read_run
from eval.testbed.events.catalogue import draw_events
from eval.testbed.generator import draw_site
from knowledge_base.chunks import make_chunks
from knowledge_base.documents import read_documents
from prompts.window_text import fingerprint
from traffic.simulation.simulate import simulate

GOLDEN = Path(__file__).parent / "golden" / "unchanged.json"
ROOT = Path(__file__).resolve().parents[1]
SAMPLES = sorted(path.parent for path in (ROOT / "assistant" / "samples").glob("*/plant.yaml"))
SHARED = ROOT.parent / "shared" / "data"
CAPTURES = {
    **{sample.name: (sample, sample / "plant.yaml") for sample in SAMPLES},
    **{
        path: (SHARED / path, None)
        for path in (
            "home/blink-cam-01.pcap",
            "iot23/44-1/conn.log.labeled",
            "modbus/CnC_uploading_exe_modbus_6RTU_with_operate.pcap",
            "quickdraw/CL5000EIP-Software-Download-Failure.pcap",
        )
    },
}
QUESTION = "what is wrong here?"


def digest(value: object) -> str:
    plain = json.dumps(
        value,
        sort_keys=True,
        default=lambda one: dict(one) if isinstance(one, Mapping) else str(one),
    )
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def table_digest(table: pd.DataFrame) -> str:
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16]


def printed(*words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        assert main(list(words)) == 0, words
    return out.getvalue()


def simulation(seed: int) -> dict[str, str]:
    made = simulate(seed, devices=8, hours=0.3)
    return {
        "flows": table_digest(made.capture.flows),
        "activity": table_digest(made.capture.activity),
        "evidence": table_digest(made.capture.evidence),
        "truth": table_digest(made.truth),
    }


def site(seed: int) -> dict[str, str]:
    drawn = draw_site(seed)
    events = [vars(event) for event in draw_events(drawn, seed, 15.0)]
    return {"site": digest([vars(machine) for machine in drawn.machines]), "events": digest(events)}


def answers(name: str) -> dict[str, object]:
    """Verdicts as labels, counts and a mean; incidents and the diagnosis whole."""
    path, plant = CAPTURES[name]
    known = ["--plant", str(plant)] if plant else []
    verdicts = [
        json.loads(line)
        for line in printed("classify", str(path), "--format", "jsonl", *known).splitlines()
    ]
    labels = pd.Series([verdict["label"] for verdict in verdicts], dtype=str)
    return {
        "labels": {
            str(label): int(count) for label, count in labels.value_counts().sort_index().items()
        },
        "verdicts": digest(
            [[v["device"], v["start_s"], v["label"], v["abstained"]] for v in verdicts]
        ),
        "mean_probability": float(
            pd.Series([v["probability"] for v in verdicts], dtype=float).mean()
        ),
        "incidents": json.loads(printed("incidents", str(path), "--format", "json", *known)),
        "diagnosis": json.loads(
            printed("ask", QUESTION, "--capture", str(path), "--format", "json", *known)
        ),
    }


def detection(folder: Path) -> dict[str, dict[str, float | None]]:
    """Scores of the quick protocol on four simulated plants, a model a row."""
    plants = write_plants(folder / "plants", (1, 2, 3, 4))
    models = [word for name in ("rules", "ewma", "knn", "xgboost") for word in ("--models", name)]
    words = ["--protocol", "leave-one-capture-out", "--data", str(plants), "--quick", "--jobs", "1"]
    printed("eval", "detection", *words, *models, "--out", str(folder / "out"))
    run = read_run(folder / "out" / "detection-leave-one-capture-out-quick.json")
    return {
        f"{row.model} {row.labelling} {row.setting}".strip(): {
            name: score.value for name, score in row.scores.items() if not name.endswith("_s")
        }
        for row in run.pooled
    }


def chunk_ids() -> str:
    folders = (ROOT / "knowledge_base" / "manuals", ROOT / "knowledge_base" / "incidents")
    documents = [one for folder in folders for one in read_documents(folder).documents]
    return digest([chunk.id for document in documents for chunk in make_chunks(document)])


def golden() -> dict[str, object]:
    return json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}


def assert_same(found: object, wanted: object, where: str) -> None:
    """Equal but for the last digits of numbers, which differ between processors."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            assert_same(found[key], wanted[key], f"{where}/{key}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), where
        assert len(found) == len(wanted), where
        for index, one in enumerate(wanted):
            assert_same(found[index], one, f"{where}[{index}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-3), where
    else:
        assert found == wanted, where


@pytest.mark.parametrize("seed", range(4))
def test_a_seed_simulates_the_same_plant(seed: int) -> None:
    assert simulation(seed) == golden()["simulations"][str(seed)]


@pytest.mark.parametrize("seed", range(4))
def test_a_seed_draws_the_same_site_and_events(seed: int) -> None:
    assert site(seed) == golden()["sites"][str(seed)]


def test_prompts_and_chunks_are_those_that_models_and_vectors_were_made_for() -> None:
    assert fingerprint() == golden()["prompt_fingerprint"]
    assert chunk_ids() == golden()["chunk_ids"]


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_gives_the_same_answers(name: str, stocked_home: Path) -> None:
    if not CAPTURES[name][0].exists():
        pytest.skip(f"no {CAPTURES[name][0]}: the real captures are not part of the repository")
    assert_same(answers(name), golden()["answers"][name], name)


def test_the_harness_gives_the_same_numbers(tmp_path: Path) -> None:
    assert_same(detection(tmp_path), golden()["detection"], "detection")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = {
            "simulations": {seed: simulation(seed) for seed in range(4)},
            "sites": {seed: site(seed) for seed in range(4)},
            "prompt_fingerprint": fingerprint(),
            "chunk_ids": chunk_ids(),
            "answers": {name: answers(name) for name in CAPTURES},
            "detection": detection(Path(scratch)),
        }
    GOLDEN.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")

"""`faultwise eval report`, `compare`, `tables` and `hypotheses` on a run that the harness made, and
every mistake."""

from pathlib import Path

import made_runs as made
import pytest
from labelled_folders import write_plants

from assistant.cli.main import main
from eval.detection.run import evaluate_detection
from eval.research.paper import find_data_sets
from eval.results import Run, read_run, write_run
from traffic.errors import UserError


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real run of two cheap models and what stands in every table."""
    folder = tmp_path_factory.mktemp("measured")
    plants = write_plants(folder / "plants", (1, 2), scenarios=("dos", "c2"))
    out, kept = folder / "results", folder / "kept"
    evaluate_detection(plants, "leave-one-capture-out", out, kept, ("rules",), quick=True, jobs=1)
    return folder / "results"


@pytest.fixture(scope="module")
def run(results: Path) -> Run:
    return read_run(next(results.glob("*.json")))


class TestOnARealRun:
    def test_a_report_beside_it_names_every_model_and_capture(self, results, run, capsys):
        assert main(["eval", "report", run.name, "--results", str(results)]) == 0
        written = [Path(line) for line in capsys.readouterr().out.split()]
        assert written == [results / f"{run.name}.md", results / f"{run.name}.html"]
        texts = [path.read_text(encoding="utf-8") for path in written]
        for name in (*run.models, *(one.name for one in run.data)):
            assert all(name in text for text in texts)
        assert all("not what models are worth" in text for text in texts)

    def test_a_run_against_itself_does_not_differ(self, results, run, capsys):
        given = ["--results", str(results), "--measure", "f1"]
        assert main(["eval", "compare", run.name, run.name, *given]) == 0
        said = capsys.readouterr().out
        assert "nothing but their scores" in said
        assert "| rules | – | corrected | f1 | 2 |" in said
        assert "| yes |" not in said

    def test_a_quick_run_decides_nothing(self, results, capsys):
        assert main(["eval", "hypotheses", "q4", "H5", "--results", str(results)]) == 0
        out, err = capsys.readouterr()
        assert out.count("NOT DECIDABLE HERE") == 2
        assert "no run of protocol leave-one-capture-out" in out
        assert err == f"note: results read from {results}\n"

    def test_the_results_of_the_checkout_are_read_from_anywhere(
        self, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        assert main(["eval", "hypotheses", "Q4"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("Q4  SUPPORTED\n")
        first, *others = err.splitlines()
        assert first == f"note: results read from {Path(__file__).resolve().parents[1] / 'results'}"
        assert {one.rpartition(": ")[2] for one in others} == {
            "a former edition of the language model"
        }

    def test_tables_need_no_results(self, results, capsys):
        assert main(["eval", "tables", "--results", str(results)]) == 0
        said = capsys.readouterr().out
        assert said.count("\n## Table II") == 3
        assert (
            "| T. Transformer | time-transformer | multi-class | 0.73 / 0.68 / 0.73 / 0.68 | no run |"
            in said
        )


class TestMistakes:
    """One line on stderr, nothing on stdout, exit 2."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_run(made.run([made.row("knn", "a", {"f1": 0.5})], name="good"), tmp_path)
        rows = [made.row("knn", "z", {"f1": 0.5}, train=("y",))]
        write_run(made.run(rows, name="elsewhere"), tmp_path)
        good = (tmp_path / "good.json").read_text(encoding="utf-8")
        (tmp_path / "cut.json").write_text(good[:200], encoding="utf-8")
        (tmp_path / "newer.json").write_text(
            good.replace('"version": 1', '"version": 9', 1), encoding="utf-8"
        )
        return tmp_path

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["report", "none"], "no results none"),
            (["report", "cut"], "cut.json: "),
            (["report", "newer"], "newer.json: version: Input should be 1"),
            (["compare", "good", "none"], "no results none"),
            (
                ["compare", "good", "elsewhere"],
                "captures of the first only: b, a; captures of the second only: y, z",
            ),
            (["compare", "good", "good", "--measure", "f2"], "no measure is called f2"),
            (["hypotheses"], "cut.json: file: Invalid JSON"),
            (["hypotheses", "H9"], "H9"),
            (["tables"], "cut.json: file: Invalid JSON"),
            (["tables", "--data", "no/folder"], "no/folder"),
        ],
    )
    def test_is_one_line(self, folder, arguments, said, capsys):
        if arguments == ["hypotheses", "H9"]:
            (folder / "cut.json").unlink()
            (folder / "newer.json").unlink()
        assert main(["eval", *arguments, "--results", str(folder)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert said in err
        assert err.count("\n") == 1


class TestDataSets:
    """Each data set of the paper is measured by itself."""

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "conn.log.labeled").write_text("")

    def test_each_has_its_folder(self, tmp_path):
        self.write(tmp_path / "iot23" / "a")
        self.write(tmp_path / "iot23" / "b")
        (tmp_path / "cic").mkdir()
        (tmp_path / "cic" / "Benign_train.pcap").write_text("")
        assert find_data_sets(tmp_path) == {
            "IoT-23": tmp_path / "iot23",
            "CIC IoMT 2024": tmp_path / "cic",
        }

    def test_two_in_one_folder_are_refused(self, tmp_path):
        self.write(tmp_path / "a")
        self.write(tmp_path / "b")
        (tmp_path / "Benign_train.pcap").write_text("")
        with pytest.raises(
            UserError,
            match=r"holds captures of CIC IoMT 2024 and of IoT-23; expected a folder for each",
        ):
            find_data_sets(tmp_path)

    def test_captures_of_no_set_of_the_paper(self, tmp_path, capsys):
        plants = write_plants(tmp_path / "plants", (1, 2))
        given = ["--data", str(plants), "--results", str(tmp_path / "out")]
        assert main(["eval", "tables", *given]) == 2
        assert "expected some of CIC IoMT 2024 or IoT-23" in capsys.readouterr().err

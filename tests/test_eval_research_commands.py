"""Every measure that is a command of its own says how it is called."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEASURES = [
    f"eval.research.{path.stem}"
    for path in sorted((ROOT / "eval" / "research").glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8") and path.stem != "summary"
]


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_tells_its_options(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__")
    assert ended.value.code == 0
    assert "Usage: " in capsys.readouterr().out

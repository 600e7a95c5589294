"""A site's adapter after its plant has changed: what goes in, what is kept, when it is not used."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from labelled_folders import write_plants
from tiny_bases import build_base
from tiny_models import make_card
from typer.testing import CliRunner

from assistant.cli.main import app, main
from assistant.llm.adapters import read_card
from assistant.pocket import POCKET
from assistant.registry import find_folder, load_registered
from finetune.bases import load_trainable
from finetune.recipe import read_recipe
from finetune.sft import Knobs
from finetune.sites.adapter import Order as SiteOrder
from finetune.sites.adapter import make_site_adapter
from finetune.sites.refresh import Change, Order, judge, refresh_on_labels, render_refreshed
from finetune.sites.replay import KEPT, gather_old, knows_directions
from traffic.errors import UserError

QUICK = Knobs(rank=4, epochs=1, batch=8, learning_rate=1e-3)


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plants of before (1 to 3) and of now (4 and 5)."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("plants")
    write_plants(folder / "old", (1, 2, 3), hours=0.06)
    return write_plants(folder / "new", (4, 5), hours=0.06).parent


@pytest.fixture
def site(plants: Path, home: Path, tmp_path: Path) -> Path:
    """A home whose site was tuned on the plants of before."""
    base = build_base(tmp_path / "tiny", "llama")
    order = SiteOrder(base, (plants / "old",), "demo", plants=0, per_label=8, exclude=("plant-3",))
    make_site_adapter(order, QUICK, home)
    return home


def order(plants: Path, **more: object) -> Order:
    return Order((plants / "new",), "demo", plants=0, per_label=8, **more)


@pytest.mark.parametrize("how", ["replay", "osf"])
def test_an_adapter_goes_on_and_its_texts_are_kept_for_the_next_time(how, site, plants):
    before = read_card(find_folder(site, "demo"))
    made = refresh_on_labels(order(plants, how=how, most_forgotten=1.0), QUICK, site)
    card, folder = made.card, made.adapter.path
    assert set(before.data) < set(card.data)
    assert {*card.data, *card.split["calibrate"]} >= {"plant-4", "plant-5"}
    assert "plant-3" in card.split["test"]  # never learned, by neither
    assert {"old.before.macro_f1", "old.after.macro_f1"} < set(card.metrics)
    kept = pd.read_parquet(folder / KEPT)
    assert set(kept["capture"]) == {f"plant-{number}" for number in range(1, 6)}
    assert made.adapter.used == (not made.reason)
    assert (folder / "base").is_dir() == (how == "osf")
    _, loaded = load_registered(folder)
    assert loaded == card
    assert not list((site / "training").rglob("*.safetensors"))
    with pytest.raises(UserError, match="were learned from or measured on before"):
        refresh_on_labels(order(plants), QUICK, site) if made.adapter.used else refresh_on_labels(
            Order((plants / "old",), "demo", plants=0), QUICK, site
        )


def test_what_forgets_too_much_is_kept_and_not_used(site, plants):
    used = find_folder(site, "demo")
    made = refresh_on_labels(order(plants, most_forgotten=-1.0), QUICK, site)
    assert "at most -100 may be forgotten" in made.reason
    assert (made.adapter.used, find_folder(site, "demo")) == (False, used)
    assert made.adapter.path.is_dir()
    said = render_refreshed(made)
    assert "site demo goes on with what it used" in said
    assert "five or more leave one over" in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ((0.80, 0.90, 0.01, 0.80, 0.90), (0.5, 0.5, 0.02, 0.7, 0.8), ""),
        ((0.80, 0.90, 0.01, 0.795, 0.895), (0.5, 0.5, 0.02, 0.7, 0.8), ""),
        ((0.80, 0.90, 0.01, 0.78, 0.95), (0.5, 0.5, 0.02, 0.7, 0.8), "lost 2.0 points"),
        ((0.80, 0.90, 0.01, 0.85, 0.85), (0.5, 0.5, 0.02, 0.7, 0.8), "lost 5.0 points"),
        ((0.80, 0.90, 0.01, 0.80, 0.90), (0.5, 0.5, 0.02, 0.4, 0.4), "finds and names less"),
    ],
)
def test_a_point_lost_on_captures_of_before_is_the_most(old, new, message):
    def change(f1: float, recall: float, false: float, f1_after: float, after: float) -> Change:
        return Change(
            {"macro_f1": f1, "recall": recall, "false_share": false},
            {"macro_f1": f1_after, "recall": after, "false_share": false},
        )

    said = judge(change(*old), change(*new), 0.01)
    assert message in said
    assert bool(said) == bool(message)


def test_quiet_captures_alone_may_not_raise_false_alarms():
    worse = Change({"macro_f1": 0.9, "false_share": 0.01}, {"macro_f1": 0.9, "false_share": 0.05})
    assert "alarms more often" in judge(Change({}, {}), worse, 0.01)


def test_old_texts_are_recorded_runs_of_the_card_and_plants_that_nobody_learned_from(tmp_path):
    card = make_card(
        data=("simulated-10000", "run-1", "34-1"), split={"calibrate": ("run-71",), "test": ()}
    )
    old = gather_old(tmp_path, card, 1, read_recipe(variant="quick"), tmp_path / "work")
    parts = [set(part["capture"]) for part in (old.train, old.held_out, old.test)]
    assert parts == [
        {"run-1", "simulated-10000"}, {"run-71", "simulated-2000"}, {"simulated-3000"},
    ]  # fmt: skip
    assert (old.train[old.train["capture"] == "run-1"]["kind"] == "iiot").all()


def test_who_never_read_directions_is_not_taught_them_beside_labels(site, plants):
    assert knows_directions(find_folder(site, "demo"))
    assert not knows_directions(POCKET)
    base = find_folder(site, "demo") / read_card(find_folder(site, "demo")).base
    more = {"plants": 0, "per_label": 8, "directions": False}
    made = make_site_adapter(
        SiteOrder(base.resolve(), (plants / "old",), "plain", **more), QUICK, site
    )
    assert not knows_directions(made.adapter.path)


def test_osf_trains_the_lesser_half_only_and_says_where_it_cannot(tmp_path):
    model = load_trainable(build_base(tmp_path / "llama", "llama"), "osf").model
    trained = {name.rsplit(".", 1)[-1] for name, w in model.named_parameters() if w.requires_grad}
    assert trained == {"U_low", "S_low", "V_low"}
    with pytest.raises(UserError, match="osf finds no layer"):
        load_trainable(build_base(tmp_path / "gpt2", "gpt2"), "osf")


def test_mistakes_are_refused_before_anything_is_read(plants, site, capsys):
    write_plants(plants / "one", (9,), hours=0.06)
    for words, message in (
        (["--data", str(plants / "one")], "expected two or more"),
        (["--data", str(plants / "new"), "--exclude", "plant-1"], "no capture plant-1 to exclude"),
        (["--data", str(plants / "new"), "--quiet", "x.pcap"], "expected exactly one"),
        ([], "expected exactly one"),
        (["--watch", str(plants / "old" / "plant-1")], "knows no quiet time"),
    ):
        assert main(["finetune", "refresh", "--site", "demo", *words]) == 2
        assert message in capsys.readouterr().err


def test_a_command_refreshes_a_site(site, plants):
    words = ["--data", str(plants / "new"), "--site", "demo", "--plants", "0", "--per-label", "8"]
    done = CliRunner().invoke(app, ["finetune", "refresh", *words, "--epochs", "1"])
    assert done.exit_code == 0, done.output
    assert "captures of before: macro_f1" in done.output
    card = json.loads((site / "adapters" / "demo" / "refreshed" / "card.json").read_text())
    assert card["made_by"].endswith("--data FOLDER --site demo --plants 0 --per-label 8 --epochs 1")

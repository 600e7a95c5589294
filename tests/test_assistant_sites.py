"""Several sites judged together: each row as its own adapter alone would have it, and what cannot
be judged together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_folders import write_plants
from tiny_bases import build_base
from tiny_models import build_adapter, build_model, make_card
from typer.testing import CliRunner

from assistant.cli.main import app, main
from assistant.llm.adapters import write_card
from assistant.llm.local import LocalLLM
from assistant.llm.many import ManyLLM
from assistant.llm.stacked import GROUP, mix_batches
from assistant.llm.weights import fingerprint_weights
from assistant.registry import draft_folder, register
from assistant.sites import load_sites, score_sites
from prompts.messages import ANSWERS, classification_prompt
from traffic.errors import UserError
from traffic.labels import LABELS

TEXTS = ["unanswered_out.mean=4 streak.max=9", "quiet", "out_pkts.mean=3 in_pkts.mean=2", "quiet"]
CHOICES = [ANSWERS[label] for label in LABELS]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("bases") / "tiny", "llama")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of three ranks; the last one changes only attention."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        build_adapter(folder / "a", base, 4, 1),
        build_adapter(folder / "b", base, 8, 2),
        build_adapter(folder / "c", base, 2, 3, "self_attn"),
    ]


def put(home: Path, name: str, base: Path, adapter: Path, **changes: object) -> None:
    site, family = name.split("/")
    draft = draft_folder(home, site, family)
    for file in adapter.iterdir():
        (draft / file.name).write_bytes(file.read_bytes())
    fits = {"name": name, "base": str(base), "base_fingerprint": fingerprint_weights(base)}
    write_card(make_card(**{**fits, **changes}), draft)
    register(draft, site, family)


@given(
    rows=st.lists(st.tuples(st.sampled_from([16, 32, 48]), st.integers(0, 4)), min_size=1),
    budget=st.integers(16, 2000),
)
def test_every_row_stands_once_among_rows_of_its_site_and_length(rows, budget):
    lengths, which = [length for length, _ in rows], np.array([site for _, site in rows])
    batches = mix_batches(lengths, which, budget)
    shapes: dict[int, set[int]] = {}
    for batch in batches:
        assert len({lengths[row] for row in batch}) == 1
        shapes.setdefault(lengths[batch[0]], set()).add(len(batch))
        assert len(batch) * lengths[batch[0]] <= max(budget, GROUP * lengths[batch[0]])
        for group in np.array(batch).reshape(-1, GROUP):
            assert len(set(which[group])) == 1
    assert sorted({row for batch in batches for row in batch}) == list(range(len(rows)))
    assert all(len(sizes) == 1 for sizes in shapes.values())


@pytest.mark.parametrize("shape", ["closed vocabulary", "byte pairs"])
def test_each_row_is_scored_as_its_adapter_alone_does(shape, base, adapters, tmp_path):
    choices = CHOICES
    if shape == "byte pairs":  # answers part in several places, so what was read is kept
        base = build_model(tmp_path / "base")
        adapters = [build_adapter(tmp_path / str(rank), base, rank, rank) for rank in (2, 4)]
        choices = ["normal", "anomalous recon", "anomalous dos", "got 12", "got 3"]
    prompts = [classification_prompt(text) for text in TEXTS] * 3
    which = [row % len(adapters) for row in range(len(prompts))]
    together = ManyLLM(base, adapters).score(prompts, which, choices)
    alone = [LocalLLM(base, adapter).score(prompts, choices) for adapter in adapters]
    expected = np.stack([alone[which[row]][row] for row in range(len(prompts))])
    other = np.stack([alone[which[row] - 1][row] for row in range(len(prompts))])
    errors = [
        np.linalg.norm(one - expected) / np.linalg.norm(expected) for one in (together, other)
    ]
    assert errors[0] < 0.04 < 0.1 < errors[1]  # bf16 keeps 8 bits
    np.testing.assert_allclose(np.exp(together).sum(axis=1), 1.0, atol=1e-5)


def test_a_score_does_not_depend_on_who_shares_the_batch(base, adapters):
    many = ManyLLM(base, adapters)
    prompts = [classification_prompt(text) for text in TEXTS]
    alone = many.score(prompts[:1], [1], CHOICES)
    among = many.score([*prompts, *prompts], [0, 0, 2, 1, 1, 0, 1, 2], CHOICES)
    np.testing.assert_array_equal(alone[0], among[4])


def test_sites_are_scored_by_what_each_uses_whatever_it_is(home, base, adapters, tmp_path):
    other = build_base(tmp_path / "other", "gpt2")
    put(home, "north/x", base, adapters[0])
    put(home, "south/x", base, adapters[1])
    (tmp_path / "none").mkdir()
    draft = draft_folder(home, "west", "whole")  # tuned whole: a base of its own
    (draft / "base").mkdir()
    for file in other.iterdir():
        (draft / "base" / file.name).write_bytes(file.read_bytes())
    fits = {"base": "base", "base_fingerprint": fingerprint_weights(draft / "base")}
    write_card(make_card(name="west/whole", **fits), draft)
    register(draft, "west", "whole")

    models = load_sites(home, ["north", "south", "west"])
    assert [set(one.numbers) for one in models.stacked] == [{"north", "south"}]
    assert set(models.alone) == {"west"}
    sites = ["north", "west", "south", "north"]
    scores = score_sites(TEXTS, sites, models)
    alone = {
        "north": LocalLLM(base, adapters[0]), "south": LocalLLM(base, adapters[1]),
        "west": LocalLLM(other),
    }  # fmt: skip
    for row, site in enumerate(sites):
        expected = alone[site].score([classification_prompt(TEXTS[row])], CHOICES)[0]
        np.testing.assert_allclose(np.exp(scores[row]), np.exp(expected), atol=0.05)


def test_an_adapter_that_is_more_than_lora_or_of_another_base_is_refused(base, adapters, tmp_path):
    dora = build_adapter(tmp_path / "dora", base, 4, 1, use_dora=True)
    with pytest.raises(UserError, match="expected plain LoRA"):
        ManyLLM(base, [adapters[0], dora])
    wider = build_base(tmp_path / "wider", "llama", hidden=64)
    foreign = build_adapter(tmp_path / "foreign", wider, 4, 1)
    with pytest.raises(UserError, match="cannot be loaded"):
        ManyLLM(base, [adapters[0], foreign])


def test_one_command_judges_captures_of_several_sites(home, base, adapters, tmp_path, capsys):
    data = write_plants(tmp_path, (1, 2), devices=2, hours=0.03)
    put(home, "north/x", base, adapters[0])
    put(home, "south/x", base, adapters[1], threshold=0.0)
    pairs = [f"north={data / 'plant-1'}", f"south={data / 'plant-2'}"]
    done = CliRunner().invoke(app, ["classify", *pairs, "--format", "csv"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line]
    table = pd.DataFrame([line.split(",") for line in lines[1:]], columns=lines[0].split(","))
    assert table.columns[0] == "site"
    assert set(table["site"]) == {"north", "south"}
    for site, number in (("north", 1), ("south", 2)):
        asked = ["classify", str(data / f"plant-{number}"), "--site", site, "--format", "csv"]
        alone = CliRunner().invoke(app, asked).stdout.splitlines()
        of_site = table[table["site"] == site]
        assert len(of_site) == len(alone) - 1
        first = alone[0].split(",").index("p_normal")
        theirs = np.array([line.split(",")[first] for line in alone[1:]], float)
        assert np.abs(of_site["p_normal"].to_numpy(float) - theirs).max() < 0.05
    south = table[table["site"] == "south"]
    assert not (south["label"] == "normal").any()  # its card's bound, not its neighbour's

    for words, message in (
        ([pairs[0], str(data)], "names no site"),
        ([pairs[0], pairs[0]], "named twice"),
        ([*pairs, "--site", "north"], "is of one site"),
        ([pairs[0], f"east={data}"], "holds none of site east"),
    ):
        assert main(["classify", *words]) == 2
        assert message in capsys.readouterr().err

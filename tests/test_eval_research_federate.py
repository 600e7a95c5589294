"""What merged adapters are worth and leak: the attack by hand, and two tiny sites for real."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_bases import build_base

from eval.research.federate import attack, find_site, main, simulate_sites
from traffic.errors import UserError
from traffic.labels import LABELS


class Sure:
    """Gives the likelihoods it was told, by a text's last word, to every label."""

    chat_capable = False

    def __init__(self, likelihoods: dict[str, float]) -> None:
        self.likelihoods = likelihoods

    def score(self, prompts, choices, progress=None):
        given = [
            next(value for word, value in self.likelihoods.items() if word in prompt)
            for prompt in prompts
        ]
        return np.repeat(np.array(given)[:, None], len(choices), axis=1)


def texts(*words: str) -> pd.DataFrame:
    return pd.DataFrame({"text": list(words), "label": LABELS[0]})


def test_the_attack_counts_what_the_adapter_made_likelier_than_the_base():
    learned, other = texts("aa", "bb", "bb", "both"), texts("cc", "dd", "both")
    base = Sure({"aa": -3.0, "bb": -1.0, "cc": -1.0, "dd": -3.0})
    llm = Sure({"aa": -2.0, "bb": -0.5, "cc": -0.9, "dd": -2.9})
    leak = attack(learned, other, llm, base)
    assert (leak.learned, leak.other) == (2, 2)  # what stands on both sides tells nothing
    assert leak.by_gain == 1.0  # gained 1.0 and 0.5 against 0.1 and 0.1
    assert leak.base == 0.5  # -3 and -1 on both sides
    assert leak.by_loss == pytest.approx(3 / 4)  # -2.0 and -0.5 against -0.9 and -2.9
    assert leak.found == 1.0
    with pytest.raises(UserError, match="every text was learned from, or none"):
        attack(texts("both"), texts("both"), llm, base)


def test_sites_are_made_measured_and_attacked_by_the_commands(tmp_path):
    torch.set_num_threads(1)
    base = build_base(tmp_path / "tiny", "llama")
    sites = simulate_sites(tmp_path / "captures", 2, plants=4, devices=4, hours=0.1)
    assert [len(find_site(site).learned) for site in sites] == [2, 2]
    options = "--plants 0 --per-label 8 --epochs 1 --batch 8 --rank 4"
    asked = {"work": tmp_path / "work", "site": sites, "base": base, "options": options}
    main(**asked, out=tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert str(tmp_path) not in page
    gain, leak = page.split("Membership attack")
    for name in ("own", "cat", "svd", "gathered"):
        assert f"| {name} |" in gain
        assert f"| {name} |" in leak
    assert "| shipped |" in gain
    main(**asked, out=tmp_path / "again.md")  # nothing is made twice
    assert (tmp_path / "again.md").read_text() == page


def test_a_site_with_too_few_captures_is_refused(tmp_path):
    (site,) = simulate_sites(tmp_path, 1, plants=3, devices=3, hours=0.05)
    with pytest.raises(UserError, match="holds 3 labelled captures; expected 4"):
        find_site(site)

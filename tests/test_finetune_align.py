"""Feedback becomes preferences, and every method moves what is preferred; a killed run goes on."""

import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assistant.llm.local import LocalLLM
from assistant.pocket import POCKET
from assistant.registry import load_registered
from finetune.align.preferences import add_known, choose_rivals, hold_out, make_pairs, make_unpaired
from finetune.align.reward_model import RewardModel
from finetune.align.rewards import false_all_clear, read_answer, right_abstention, right_class
from finetune.align.trainers import How, Knobs, align, train_reward
from finetune.bases import load_trainable
from finetune.calibrate import score_texts
from finetune.pace import find_checkpoint
from finetune.recorded import RECORDED, read_recorded
from prompts.messages import ANSWERS, classification_prompt
from traffic.errors import UserError
from traffic.labels import LABELS, NORMAL

SAID = pd.DataFrame(
    [
        ("past known 9\nquiet", NORMAL, "dos"),
        ("known 9\nsent 20 30", "dos", "recon"),
        ("known 3\nhosts 12", "recon", ""),
        ("names 4 4", "", "c2"),
    ],
    columns=["text", "said", "shown"],
)
BASE = POCKET.parent / "base"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def llm() -> LocalLLM:
    return load_registered(POCKET)[0]


@pytest.fixture(scope="module")
def table(llm: LocalLLM) -> pd.DataFrame:
    """Some windows of a recorded plant that the shipped adapter never learned from, and the eight
    that it doubts most, of which nobody says more than that it was not what the model says."""
    known = read_recorded(RECORDED, "run-71").drop_duplicates("text")
    drawn = [rows.sample(min(5, len(rows)), random_state=0) for _, rows in known.groupby("label")]
    said = pd.concat(drawn).rename(columns={"label": "said"})[["text", "said"]].assign(shown="")
    left = known[~known["text"].isin(said["text"])]
    scores = score_texts(left, llm)
    doubted = np.argsort(scores.max(axis=1))[:8]
    left, shown = left.iloc[doubted], np.array(LABELS)[scores[doubted].argmax(axis=1)]
    open_ = pd.DataFrame({"text": left["text"], "said": "", "shown": shown})
    return choose_rivals(pd.concat([said, open_], ignore_index=True), llm)


def likelihood(adapter: Path, table: pd.DataFrame, column: str) -> float:
    """Mean probability of a label of each window."""
    scores = score_texts(table, LocalLLM(BASE, adapter))
    return float(np.exp(scores[np.arange(len(table)), table[column].map(LABELS.index)]).mean())


# ---- preferences ----


def test_the_wrong_label_is_the_one_shown_or_the_likeliest_other_one(llm):
    found = choose_rivals(SAID, llm)
    assert found["rival"].tolist()[:2] + found["rival"].tolist()[3:] == ["dos", "recon", "c2"]
    scores = score_texts(SAID, llm)[2]
    scores[LABELS.index("recon")] = -np.inf
    assert found["rival"][2] == LABELS[scores.argmax()]


def test_what_is_learned_are_the_tokens_that_serving_scores(llm):
    tokenizer = load_trainable(BASE).tokenizer
    pairs = make_pairs(choose_rivals(SAID, llm), tokenizer)
    served = llm._model.encode
    prompts = served([classification_prompt(text) for text in SAID["text"]], special=True)
    assert pairs["prompt_ids"] == prompts[:3]  # nobody said what the fourth is
    assert pairs["chosen_ids"] == served(
        [ANSWERS[said] for said in SAID["said"][:3]], special=False
    )
    with pytest.raises(UserError, match="no remark says what is right"):
        make_pairs(choose_rivals(SAID[3:], llm), tokenizer)


@given(st.integers(1, 13), st.integers(2, 5))
def test_an_unpaired_answer_is_measured_against_those_of_its_batch(count, at_once):
    class Words:
        chat_template = None

        def __call__(self, texts, add_special_tokens=True):
            return type("Encoded", (), {"input_ids": [text.split() for text in texts]})

    table = pd.concat([SAID] * 4).iloc[:count].assign(rival="flapping")
    examples = make_unpaired(table, Words(), at_once)
    named = int((table["said"] != "").sum())
    assert sum(examples["label"]) == named
    assert len(examples) == named + count  # each window's wrong one is bad
    for start in range(0, len(examples), at_once):
        batch = examples[start : start + at_once]
        moved = [batch["completion_ids"][-1], *batch["completion_ids"][:-1]]
        assert batch["KL_completion_ids"] == moved


def feedback(count: int, captures: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": [f"text {n}" for n in range(3 * count)],
            "said": [NORMAL, "recon", "c2"] * count,
            "shown": ["recon"] * (3 * count),
            "incident": [f"incident-{n // 3}" for n in range(3 * count)],
            "capture": [f"capture-{n // 3 % captures}" for n in range(3 * count)],
        }
    )


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 3))
def test_no_incident_is_learned_and_held_out(count, captures, seed):
    parts = hold_out(feedback(count, captures), seed)
    assert len(parts.learned) + len(parts.held_out) == 3 * count
    assert not set(parts.learned[parts.by]) & set(parts.held_out[parts.by])
    assert not set(parts.learned["incident"]) & set(parts.held_out["incident"])
    assert len(parts.learned)
    assert (len(parts.held_out) > 0) == (count >= 4)


def test_an_anomaly_is_read_twice_as_often_as_it_is_called_normal():
    known = pd.DataFrame({"text": [f"{label} {n}" for label in LABELS for n in range(40)]})
    known = known.assign(label=np.repeat(LABELS, 40), capture="plant")
    wrong = pd.DataFrame({"text": [f"bot {n}" for n in range(15)], "said": NORMAL, "shown": "c2"})
    both = add_known(wrong, known, 1.0, 0)
    assert (both["said"] == "c2").sum() == 30
    assert set(both["said"]) == set(LABELS)


# ---- rewards ----


def test_rewards_are_what_the_words_say():
    answers = ["normal", "anomalous recon source", "anomalous c2", "anomalous", "recon", "normal"]
    said = ["recon", "recon", "service_down", "recon", "recon", NORMAL]
    shown = ["dos"] * 6
    assert [read_answer(one) for one in answers] == [NORMAL, "recon", "c2", "", "", NORMAL]
    assert right_class(answers, said) == [0, 1, 0, 0, 0, 1]
    # A dead controller and a dead service look the same.
    assert right_abstention(answers, said, shown) == [0, 0, 0.5, 0, 0, 0]
    assert false_all_clear(answers, said) == [-1, 0, 0, -1, -1, 0]
    left_open = right_abstention(["anomalous dos", "anomalous c2", "normal"], [""] * 3, ["dos"] * 3)
    assert left_open == [0, 1, 0]
    assert false_all_clear(["normal"], [""]) == [-1]
    assert read_answer([{"role": "assistant", "content": "anomalous dos"}]) == "dos"


# ---- trainers ----

QUICK = Knobs(epochs=2, batch=16)


@pytest.mark.parametrize("how", get_args(How))
def test_each_method_makes_what_is_preferred_likelier(how, table, tmp_path):
    out = tmp_path / "out"
    done = align(BASE, POCKET, table, out, tmp_path / "work", how, QUICK)
    assert done.ended == "epochs"
    named, open_ = table[table["said"] != ""], table[table["said"] == ""]
    assert likelihood(out, named, "said") > likelihood(POCKET, named, "said") + 0.02
    if how == "kto":  # it learns from what is wrong alone
        assert likelihood(out, open_, "shown") < likelihood(POCKET, open_, "shown")
    names = sorted(path.name for path in out.iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors"]
    assert str(BASE) not in (out / "adapter_config.json").read_text()


def test_a_reward_model_prefers_what_people_prefer(table, tmp_path):
    knobs = Knobs(epochs=8, batch=16)
    train_reward(BASE, POCKET, table, tmp_path / "reward", tmp_path / "work", knobs)
    reward = RewardModel(tmp_path / "reward")
    named = table[table["said"] != ""]
    texts = named["text"].tolist()
    better = reward.score(texts, named["said"].tolist()) > reward.score(
        texts, named["rival"].tolist()
    )
    assert better.mean() > 0.8
    said, nothing = reward(completions=["normal", "what"], text=texts[:2])
    assert nothing < said


@pytest.mark.parametrize("how", ["kto", "dpo"])
def test_a_killed_run_goes_on_from_its_last_whole_checkpoint(how, table, tmp_path):
    work = tmp_path / "work"
    whole = align(BASE, POCKET, table, tmp_path / "a", work, how, QUICK)
    last = find_checkpoint(work)
    (last / "whole.json").unlink()  # killed while it was written
    done = align(BASE, POCKET, table, tmp_path / "b", work, how, QUICK)
    assert (done.steps, done.ended) == (whole.steps, "epochs")
    a, b = (score_texts(table, LocalLLM(BASE, tmp_path / name)) for name in "ab")
    assert np.abs(np.exp(a) - np.exp(b)).max() < 1e-3


def test_what_cannot_be_aligned_is_refused(table, tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    with pytest.raises(UserError, match="does not divide into 8"):
        align(BASE, POCKET, table, out, work, "grpo", Knobs(batch=12))
    long = table.assign(text="known 9 " * 200)
    with pytest.raises(UserError, match="reads at most 256"):
        align(BASE, POCKET, long, out, work, "dpo", QUICK)


# ---- ten wrong remarks ----


def test_ten_wrong_remarks_do_not_silence_a_bot(llm, tmp_path):
    """Even where no rule proves it: known windows of its kind stand beside them."""
    bots = read_recorded(RECORDED, "run-72")
    bots = bots[bots["label"] == "c2"].drop_duplicates("text").reset_index(drop=True)
    known = pd.concat([read_recorded(RECORDED, name) for name in ("run-2", "run-3", "run-5")])
    ten = bots.head(10).assign(said=NORMAL, shown="c2")[["text", "said", "shown"]]
    rest = bots.iloc[10:] if len(bots) >= 20 else bots

    def odd(adapter: Path) -> float:
        scores = score_texts(rest, LocalLLM(BASE, adapter))
        return float(1 - np.exp(scores[:, LABELS.index(NORMAL)]).mean())

    knobs = Knobs(epochs=10, batch=16)
    for name, table in (("bare", ten), ("beside", add_known(ten, known, 2.0, 0))):
        out, work = tmp_path / name, tmp_path / f"{name}-steps"
        align(BASE, POCKET, choose_rivals(table, llm), out, work, "dpo", knobs)
        shutil.rmtree(work)
    before, bare, beside = (odd(one) for one in (POCKET, tmp_path / "bare", tmp_path / "beside"))
    assert beside > before - 0.1
    assert beside > bare

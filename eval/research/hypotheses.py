"""The papers' hypotheses and questions, each with the experiment that decides it, and what the runs
so far say.

    eval/hypotheses/*.yaml ─▶ claims ─▶ numbers in results/ ─▶ supported / not supported / not
    decidable here

Rules and margins stand in the files and were fixed before any run. A claim that a missing run would
decide leaves its hypothesis open, and so does a trainer that does not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.research.claims import LLM, Claim, Evidence, Outcome, decide_claim
from traffic.errors import UserError

_FOLDER = Path(__file__).with_name("hypotheses")
# H before Q, by number: H2 stands before H10.
HYPOTHESES: tuple[str, ...] = tuple(
    sorted(
        (path.stem for path in _FOLDER.glob("*.yaml")), key=lambda name: (name[0], int(name[1:]))
    )
)
Verdict = Literal["supported", "not supported", "not decidable here"]
_MARKS = {"holds": "+", "fails": "-", "open": "?"}


class Hypothesis(BaseModel):
    """One question and how it is decided. A file from outside: nothing extra passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    name: str
    source: str
    says: str = Field(description="the paper's own words, shortened")
    asks: str = Field(description="what is decided here, in a sentence")
    rule: str = Field(description="when it is supported and when not, in words")
    claims: tuple[Claim, ...]
    waits_for: str = Field(
        "", description="what does not exist yet and must; the verdict is open until then"
    )
    cannot: str = Field(description="what these runs cannot decide")


@dataclass(frozen=True)
class Decision:
    """A verdict and why: the outcome of each claim, in the order of the file."""

    hypothesis: Hypothesis
    verdict: Verdict
    outcomes: tuple[Outcome, ...]


def read_hypothesis(name: str, llm: str = "pocket") -> Hypothesis:
    """Read one that ships.

    Args:
        name: one of HYPOTHESES; case does not matter.
        llm: the model that stands for the language model in its claims.

    Raises:
        UserError: there is none of this name, or its file is none.
    """
    known = {one.lower(): one for one in HYPOTHESES}
    if name.lower() not in known:
        raise UserError(
            f"no hypothesis is called {name}; expected any of {', '.join(HYPOTHESES)}; correct the name"
        )
    path = _FOLDER / f"{known[name.lower()]}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for claim in content["claims"]:
        if claim.get("model") == LLM:
            claim["model"] = llm
    try:
        return Hypothesis.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UserError(
            f"{path} is no hypothesis ({'.'.join(map(str, first['loc']))}: {first['msg']}); expected the form of its "
            "neighbours; correct the file"
        ) from error


def decide(hypothesis: Hypothesis, evidence: Evidence) -> Decision:
    """The verdict that the runs support: by every claim that is not ``beside``."""
    outcomes = tuple(decide_claim(claim, evidence) for claim in hypothesis.claims)
    states = [
        o.state for claim, o in zip(hypothesis.claims, outcomes, strict=True) if not claim.beside
    ]
    verdict: Verdict = "not decidable here"
    if not hypothesis.waits_for and states:
        if "fails" in states:
            verdict = "not supported"
        elif all(state == "holds" for state in states):
            verdict = "supported"
    return Decision(hypothesis, verdict, outcomes)


def decide_all(names: Sequence[str], evidence: Evidence, llm: str = "pocket") -> list[Decision]:
    """Decide those named, or all; unknown names are refused before anything is decided.

    Raises:
        UserError: as `read_hypothesis`.
    """
    return [
        decide(one, evidence)
        for one in [read_hypothesis(name, llm) for name in names or HYPOTHESES]
    ]


def render_decision(decision: Decision) -> str:
    """A verdict as text: each claim with its mark (+ holds, - fails, ? open) and its numbers."""
    one = decision.hypothesis
    lines = [f"{one.name}  {decision.verdict.upper()}", f"  {one.asks}", f"  rule: {one.rule}"]
    if one.waits_for:
        lines.append(f"  waits for: {one.waits_for}")
    for claim, outcome in zip(one.claims, decision.outcomes, strict=True):
        beside = " (beside: decides nothing)" if claim.beside else ""
        lines += [f"  [{_MARKS[outcome.state]}] {claim.says}{beside}", f"      {outcome.text}"]
    return "\n".join([*lines, f"  cannot decide: {one.cannot}"])

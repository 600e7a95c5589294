"""Every message a model ever sees; training, serving and eval call these same functions.

A verdict is two decisions in one go: is the window normal, and if not, which label? So each answer's first word is
the detection and its second the class, and a model that only continues text can be scored on both in one pass:

    normal | anomalous recon | anomalous dos | …
"""

from traffic.labels import LABELS, NORMAL, TAXONOMY

__all__ = ["ANSWERS", "classification", "classification_prompt"]

ANSWERS: dict[str, str] = {label: label if label == NORMAL else f"anomalous {label}" for label in LABELS}


def classification_prompt(text: str) -> str:
    r"""Render one window's text for a model without a chat template, so that the answer is what comes next.

    The prompt ends with a newline and answers start without a space: then the answer's tokens are the same whether
    it is tokenised alone or after the prompt.

    >>> classification_prompt("quiet")
    'quiet\nverdict\n'
    """
    return f"{text}\nverdict\n"


def classification(text: str) -> list[dict[str, str]]:
    """Render one window's text for a chat model.

    The instruction comes first and is the same for every window, so that its part of the prompt is computed once.
    """
    return [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": text}]


_INSTRUCTION = "\n".join(
    [
        "You judge one minute of a network device's traffic in an industrial plant.",
        "It is given as six lines, oldest first, ten seconds each; numbers are levels on a logarithmic scale.",
        "Answer with exactly one of these lines and nothing else:",
        *(f"{ANSWERS[name]} ({label.meaning})" for name, label in TAXONOMY.items()),
        "Leave out the explanation in brackets.",
    ]
)

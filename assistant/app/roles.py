"""What a role may do on the page: operators see no rows of engineers, and engineers' events refuse them.

    browser ── event, by its number ──▶ Guard: who it is ──▶ for_engineers ──▶ the event's function
                                                              └──▶ refused, a row of the audit log

Hiding a button stops nobody: whoever is logged in can send any event, shown or not. So the function
itself asks who sent it.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from assistant.api.users import Person, note_refusal
from assistant.history import History

ROWS = "engineers"  # the class of rows that only engineers see


def is_engineer(request: gr.Request) -> bool:
    """Whether a request is an engineer's, as the guard before the page found; not where there is no
    guard."""
    person: Person | None = getattr(request.state, "person", None)
    return person is not None and person.may("engineer")


def for_engineers(history: History, doing: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """An event's function that refuses operators.

    Args:
        history: holds the audit log, which tells of who was refused.
        doing: what the function does, "remove a document".
        work: the function; it may yield.
    """

    def check(request: gr.Request) -> None:
        if is_engineer(request):
            return
        person: Person | None = getattr(request.state, "person", None)
        note_refusal(history, person, doing, "engineer")
        raise gr.Error(
            f"Only engineers can {doing}; ask one of them, or log in as one.",
            print_exception=False,
            title="Not done",
        )

    # Gradio looks at the kind of function: one that yields must be one.
    def run(request: gr.Request, *inputs: Any) -> Any:
        check(request)
        return work(*inputs)

    def run_in_steps(request: gr.Request, *inputs: Any) -> Iterator[Any]:
        check(request)
        yield from work(*inputs)

    return run_in_steps if inspect.isgeneratorfunction(work) else run

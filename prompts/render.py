"""Text from templates: Jinja with nothing optional, so that a prompt never goes out with a hole in
it."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    UndefinedError,
    meta,
)

from traffic.errors import UserError

FOLDER = Path(__file__).parent


@cache
def _environment() -> Environment:
    # Plain text for terminals, files and models: HTML escaping would corrupt it, and the web page
    # escapes for itself.
    return Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


@cache
def _needed(template_name: str) -> frozenset[str]:
    """Names of the variables that a template and the templates it includes read."""
    environment = _environment()
    source = environment.loader.get_source(environment, template_name)[0]  # type: ignore[union-attr]
    tree = environment.parse(source)
    names = set(meta.find_undeclared_variables(tree))
    for other in meta.find_referenced_templates(tree):
        if other is not None:
            names |= _needed(other)
    return frozenset(names)


def render(template_name: str, **values: Any) -> str:
    """Fill a template of this package.

    Args:
        template_name: file name in ``prompts/``, with its ending: ``"diagnosis.jinja"``.
        values: one per variable of the template; a value may be any object the template can read.

    Raises:
        UserError: there is no such template, or variables are missing (all of them are named at
            once), or a value lacks what the template reads of it.
    """
    try:
        missing = sorted(_needed(template_name) - values.keys())
    except TemplateNotFound as error:
        known = ", ".join(sorted(path.name for path in FOLDER.glob("*.jinja")))
        raise UserError(
            f"no template {error.name!r} in prompts/; expected one of: {known}"
        ) from None
    if missing:
        raise UserError(
            f"template {template_name} lacks values for: {', '.join(missing)}; pass each of them by name"
        )
    try:
        return _environment().get_template(template_name).render(**values)
    except UndefinedError as error:
        raise UserError(
            f"template {template_name}: {error.message}; give values that have what it reads"
        ) from None

"""A recipe: every number of a training run in one checked file."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from finetune.pocket.pretrain import Shape
from traffic.errors import UserError
from traffic.files import Strict, read_yaml, say_mistakes

POCKET = Path(__file__).parent / "recipes" / "pocket.yaml"

_VARIANTS = ("quick", "begun")

Count = Annotated[int, Field(ge=1)]
Minutes = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Pretraining(Strict):
    """Bounds of the two phases on unlabelled texts."""

    texts: Count
    epochs: Count
    max_minutes: Minutes
    learning_rate: Rate
    batch_tokens: Count


class Draw(Strict):
    """How many labelled texts are drawn, how often they are read, and for how long at most."""

    per_label: Count
    per_normal: Count
    repeats: Count
    real_share: Share
    house_share: Share
    epochs: Count
    learning_rate: Rate
    max_minutes: Minutes


class Tuning(Draw):
    """Bounds of the adapter's training."""

    rank: Count
    batch: Count


class Houses(Strict):
    """Simulated houses of wireless devices: seeds, first and end (not included), and sizes."""

    train_seeds: tuple[int, int]
    test_seeds: tuple[int, int]
    devices: tuple[Count, Count]
    hours: Minutes


class Variation(Strict):
    """How labelled texts are varied at each reading, see `finetune.dataset.vary_texts`."""

    moved: Share
    left_out: Share


class Recipe(Strict):
    """What recipes/pocket.yaml explains, key by key; ranges are first and end (not included)."""

    seed: int
    train_seeds: tuple[int, int]
    calibrate_seeds: tuple[int, int]
    test_seeds: tuple[int, int]
    devices: tuple[Count, Count]
    hours: Minutes
    houses: Houses
    shape: Shape
    pretrain: Pretraining
    vary: Variation
    answers: Draw
    sft: Tuning
    anomalous_share: Rate
    max_false: Rate
    max_wrong_name: Rate
    episodes: tuple[Annotated[float, Field(gt=0, le=1)], ...]


def read_recipe(path: Path = POCKET, variant: str = "") -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file as recipes/pocket.yaml.
        variant: replace what stands under this key: ``quick``, or ``begun`` for a base that goes on
            from another.

    Raises:
        UserError: the file is missing or not YAML, or keys are missing, unknown or out of range
            (all are named).
    """
    values = read_yaml(path, dict[str, Any], "a recipe as recipes/pocket.yaml")
    changes = {name: values.pop(name, {}) for name in _VARIANTS}
    try:
        return Recipe.model_validate(values | changes.get(variant, {}))
    except ValidationError as error:
        raise UserError(
            f"{path} is no recipe ({say_mistakes(error)}); expected the keys of "
            "recipes/pocket.yaml; correct them"
        ) from error

"""Adapters of sites: which one a site uses, what may be removed, what is noticed as changed."""

from pathlib import Path

import pytest
from tiny_models import build_model, make_card
from typer.testing import CliRunner

from assistant.cli.main import app, main
from assistant.llm.adapters import write_card
from assistant.llm.weights import fingerprint_weights
from assistant.pocket import POCKET
from assistant.registry import (
    check_name,
    check_registered,
    draft_folder,
    find_folder,
    list_registered,
    load_registered,
    register,
    remove,
    use,
)
from traffic.errors import UserError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("base") / "base")


def put(home: Path, site: str, family: str, base: Path, chosen: bool = True) -> Path:
    """A model that was tuned whole, since it needs no PEFT."""
    draft = draft_folder(home, site, family)
    (draft / "base").mkdir()
    for file in base.iterdir():
        (draft / "base" / file.name).write_bytes(file.read_bytes())
    fits = {"base": "base", "base_fingerprint": fingerprint_weights(draft / "base")}
    write_card(make_card(name=f"{site}/{family}", **fits), draft)
    assert family not in [one.family for one in list_registered(home) if one.site == site]
    return register(draft, site, family, chosen).path


def test_a_site_uses_what_it_was_given_last_or_what_it_chose(home, base):
    first, second = put(home, "north", "a", base), put(home, "north", "b", base)
    put(home, "south", "a", base)
    assert [(one.name, one.used) for one in list_registered(home)] == [
        ("north/a", False), ("north/b", True), ("south/a", True),
    ]  # fmt: skip
    assert find_folder(home, "north") == second
    use(home, "north", "a")
    assert find_folder(home, "north") == first
    assert find_folder(home, "north/b") == second
    use(home, "north", "shipped")
    assert find_folder(home, "north") == POCKET
    llm, card = load_registered(first)
    assert (card.name, llm.chat_capable) == ("north/a", False)


@pytest.mark.parametrize(
    ("name", "message"),
    [("west", "no adapter west"), ("north/z", "expected one of north/a, north/b")],
)
def test_an_adapter_that_is_not_there_is_named_with_those_that_are(name, message, home, base):
    put(home, "north", "a", base), put(home, "north", "b", base)
    with pytest.raises(UserError, match=message):
        find_folder(home, name)
    with pytest.raises(UserError, match="no adapter"):
        use(home, "west", "shipped")


def test_what_is_in_use_is_not_removed(home, base):
    put(home, "north", "a", base), put(home, "north", "b", base)
    with pytest.raises(UserError, match="site north uses north/b"):
        remove(home, "north/b")
    with pytest.raises(UserError, match="site north uses north/b"):
        remove(home, "north")
    remove(home, "north/a")
    assert [one.name for one in list_registered(home)] == ["north/b"]
    use(home, "north", "shipped")
    remove(home, "north/b")
    assert not list((home / "adapters").iterdir())


def test_one_of_the_same_name_gives_way(home, base, tmp_path):
    path = put(home, "north", "a", base)
    draft = draft_folder(home, "north", "a")
    write_card(make_card(name="new"), draft)
    register(draft, "north", "a")
    assert not (path / "base").exists()
    assert sorted(one.name for one in path.parent.iterdir()) == ["a", "default"]


def test_a_file_that_was_changed_or_lost_is_noticed(home, base):
    path = put(home, "north", "a", base)
    check_registered(path)
    weights = path / "base" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for look in (check_registered, load_registered):
        with pytest.raises(UserError, match=r"model\.safetensors is not what"):
            look(path)
    with pytest.raises(UserError, match="is not what"):
        use(home, "north", "a")
    weights.write_bytes(whole)
    check_registered(path)
    weights.unlink()
    with pytest.raises(UserError, match="is not what"):
        check_registered(path)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "shipped", "x" * 65, "a b"])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(UserError, match="cannot name a folder"):
        check_name(name, "site")


def test_the_commands_list_show_use_and_remove(home, base, capsys):
    put(home, "north", "a", base), put(home, "north", "b", base)
    (home / "adapters" / "north" / "a" / "card.json").write_text("{")

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["adapters", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    listed = run("list").splitlines()
    assert [line.split()[:2] for line in listed[2:]] == [["north/a", "card"], ["*", "north/b"]]
    assert '"name": "north/b"' in run("show", "north")
    assert '"name": "pocket"' in run("show", str(POCKET))
    assert run("use", "north", "shipped") == "site north uses shipped\n"
    assert run("remove", "north/b") == "removed north/b\n"
    assert main(["adapters", "use", "north", "a"]) == 2
    assert "is not what" in capsys.readouterr().err

"""Adapters that travel: what is signed is what is merged, and whatever is not is refused."""

import base64
import shutil
from pathlib import Path

import pytest
import torch
from labelled_folders import write_plants
from test_finetune_merge import changes, put
from tiny_bases import build_base
from typer.testing import CliRunner

from assistant.cli.main import app
from assistant.llm.adapters import read_card
from assistant.registry import list_registered, load_registered
from finetune.sites.federate import SIGNATURE, export_adapter, federate
from traffic.errors import UserError
from traffic.files import SUMS, write_sums


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plants(tmp_path_factory.mktemp("data"), (1,), hours=0.06)


@pytest.fixture
def stick(base: Path, tmp_path: Path) -> Path:
    """Two sites' packets, each from a home of its own, with their public keys."""
    for site, rank in (("north", 2), ("south", 4)):
        home = tmp_path / f"home-{site}"
        adapter = put(home, f"{site}/a", base, rank)
        (adapter / "texts.parquet").write_bytes(b"the site's own")
        write_sums(adapter)
        made = export_adapter(home, site, home / "keys" / site, tmp_path / "stick" / site)
        assert made.new_key
        assert (home / "keys" / site).stat().st_mode & 0o077 == 0
        shutil.copy(made.public_key, tmp_path / "stick" / f"{site}.pub")
    return tmp_path / "stick"


def merge_all(home: Path, stick: Path, base: Path, data: Path, **more):
    packets, keys = (
        [stick / f"{site}{end}" for site in ("north", "south")] for end in ("", ".pub")
    )
    return federate(home, packets, keys, base, "all", data=[data], **more)


def test_what_travels_is_weights_configuration_and_card_alone(stick):
    assert {one.name for one in (stick / "north").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "card.json", SUMS, SIGNATURE,
    }  # fmt: skip
    assert str(stick.parent) not in (stick / "north" / "card.json").read_text()


def test_signed_adapters_of_two_sites_become_one_that_is_their_weighted_sum(
    stick, base, data, home
):
    made = merge_all(home, stick, base, data, weights=[0.7, 0.3])
    assert [(one.name, one.used) for one in list_registered(home)] == [
        ("all/federated", False), ("north/a", False), ("south/a", False),
    ]  # fmt: skip
    merged, one, other = (changes(path) for path in (made.path, stick / "north", stick / "south"))
    for name, delta in merged.items():
        torch.testing.assert_close(delta, 0.7 * one[name] + 0.3 * other[name], atol=1e-4, rtol=1e-3)
    load_registered(made.path)
    assert read_card(made.path).split["calibrate"] == ("plant-1",)


def test_the_commands_do_the_same(stick, base, data, home):
    words = [str(stick / site) for site in ("north", "south")]
    words += [
        word for site in ("north", "south") for word in ("--trust", str(stick / f"{site}.pub"))
    ]
    words += ["--site", "all", "--base", str(base), "--data", str(data), "--how", "svd"]
    done = CliRunner().invoke(app, ["finetune", "federate", *words])
    assert done.exit_code == 0, done.output
    assert "adapters use all federated" in done.output
    again = ["adapters", "export", "all/federated", "--key", str(home / "k"), "--out"]
    out = CliRunner().invoke(app, [*again, str(stick / "all")])
    assert out.exit_code == 0, out.output
    assert str(home / "k.pub") in out.output


def forge(stick: Path) -> None:
    """Another's weights under a site's name, with sums that fit and a signature that does not."""
    shutil.copy(
        stick / "south/adapter_model.safetensors", stick / "north/adapter_model.safetensors"
    )
    signature = (stick / "north" / SIGNATURE).read_bytes()
    write_sums(stick / "north")
    (stick / "north" / SIGNATURE).write_bytes(signature)


def change_weights(stick: Path) -> None:
    file = stick / "north" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (forge, "by none of the 2 trusted keys"),
        (change_weights, "is not what"),
        (lambda stick: (stick / "north" / SIGNATURE).unlink(), "holds no SHA256SUMS with its"),
        (lambda stick: (stick / "north" / SIGNATURE).write_text("?"), "by none of the 2"),
        (
            lambda stick: (stick / "north" / SIGNATURE).write_bytes(base64.b64encode(bytes(64))),
            "by none of the 2",
        ),
        (lambda stick: (stick / "north" / "run.py").write_text("0"), "not part of a packet"),
        (lambda stick: (stick / "north.pub").write_text("0"), "is no public key"),
    ],
)
def test_a_packet_that_is_not_what_a_trusted_site_signed_is_refused(
    spoil, message, stick, base, data, home
):
    spoil(stick)
    with pytest.raises(UserError, match=message):
        merge_all(home, stick, base, data)
    assert not list_registered(home)


def test_a_site_that_is_not_trusted_and_another_base_are_refused(stick, base, data, home, tmp_path):
    packets = [stick / "north", stick / "south"]
    with pytest.raises(UserError, match=r"south.* is by none of the 1 trusted keys"):
        federate(home, packets, [stick / "north.pub"], base, "all", data=[data])
    other = build_base(tmp_path / "other", "llama", initializer_range=0.1)
    with pytest.raises(UserError, match="trained on other weights"):
        merge_all(home, stick, other, data)
    assert not list_registered(home)


def test_the_same_adapter_may_come_again_but_not_another_of_its_name(
    stick, base, data, home, tmp_path
):
    merge_all(home, stick, base, data)
    merge_all(home, stick, base, data, family="again")
    newer = tmp_path / "newer"
    put(newer, "north/a", base, 3)
    shutil.rmtree(stick / "north")
    key = tmp_path / "home-north" / "keys" / "north"
    export_adapter(newer, "north", key, stick / "north")
    with pytest.raises(UserError, match="registered here with other weights"):
        merge_all(home, stick, base, data, family="third")


def test_a_key_that_is_none_and_a_folder_that_is_there_are_refused(base, tmp_path):
    home = tmp_path / "home"
    put(home, "north/a", base, 2)
    (tmp_path / "key").write_text("no key")
    with pytest.raises(UserError, match="is no private key"):
        export_adapter(home, "north", tmp_path / "key", tmp_path / "out")
    with pytest.raises(UserError, match="is there already"):
        export_adapter(home, "north", tmp_path / "new", tmp_path)

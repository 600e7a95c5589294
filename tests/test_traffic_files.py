"""Strict forms, whole writes, one owner."""

import subprocess
import sys

import pytest
from pydantic import Field

from traffic.errors import UserError
from traffic.files import Strict, own_folder, read_json, read_yaml, replacing, write_text


class Rate(Strict):
    name: str
    rate: float = Field(gt=0)


def test_a_form_is_read_from_yaml_and_json(tmp_path):
    (tmp_path / "a.yaml").write_text("name: a\nrate: 2\n")
    (tmp_path / "a.json").write_text('{"name": "a", "rate": 2}')
    wanted = Rate(name="a", rate=2)
    assert read_yaml(tmp_path / "a.yaml", Rate, "a rate") == wanted
    assert read_json(tmp_path / "a.json", Rate, "a rate") == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: a\nrate: 0\nmore: 1\n",
            r"rate: Input should be greater than 0; more: Extra inputs",
        ),
        ("name: [a\n", r"is not YAML \(.*line 2.*\); expected a rate; correct it"),
        (b"\xff\xfe", r"cannot be read \(not UTF-8\); expected a rate"),
        (None, r"cannot be read \(No such file or directory\); expected a rate"),
        ("3", "file: Input should be a valid dictionary"),
    ],
)
def test_every_mistake_is_named_in_one_line(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        read_yaml(path, Rate, "a rate")


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(LookupError):  # noqa: PT012, SIM117 - the write is what fails
        with replacing(path) as draft:
            draft.write_text("half")
            raise LookupError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.txt cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "")


def test_a_folder_has_one_owner_until_the_process_ends(tmp_path):
    script = (
        "import sys; from pathlib import Path; from traffic.files import own_folder\n"
        f"lock = own_folder(Path({str(tmp_path)!r}), 'the store')\n"
        "print('mine', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        with pytest.raises(UserError, match=f"the store .* is in use by process {owner.pid}"):
            own_folder(tmp_path, "the store")
        owner.communicate("")
    own_folder(tmp_path, "the store").release()

"""One door for captures: content decides, folders are one capture, and what holds none is
refused."""

import gzip
import shutil
from pathlib import Path

import pandas as pd
import pytest
from frames import client, write_pcap

from traffic.errors import UserError
from traffic.pcap.unpack import ALWAYS_BYTES, MOST_RATIO
from traffic.reader import is_pcap, read_capture
from traffic.simulation.simulate import simulate, write_simulation

CONN = (
    "#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\tduration\torig_bytes\tresp_bytes"
    "\torig_pkts\tresp_pkts\n{ts}\t10.0.0.1\t5\t10.0.0.2\t502\ttcp\tSF\t1.0\t1\t1\t2\t2\n"
)


def test_is_pcap_knows_every_magic(tmp_path: Path) -> None:
    magics = ["a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a"]
    for magic in magics:
        path = tmp_path / "x.log"
        path.write_bytes(bytes.fromhex(magic) + b"\0" * 20)
        assert is_pcap(path), magic
    path.write_bytes(b"#fields")
    assert not is_pcap(path)


def test_read_capture_reads_a_log_called_pcap(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    path.write_bytes(gzip.compress(CONN.format(ts=5).encode()))
    assert read_capture(path).flows["ts"].tolist() == [5.0]


def test_a_packed_pcap_is_read_as_any(tmp_path: Path) -> None:
    plain = write_pcap(tmp_path / "a.pcap", [client(1.0, "S"), client(2.0, "S", 1)])
    packed = tmp_path / "a.pcap.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert is_pcap(packed)
    expected = read_capture(plain)
    pd.testing.assert_frame_equal(read_capture(packed).flows, expected.flows)
    cut = tmp_path / "cut.pcap.gz"
    cut.write_bytes(packed.read_bytes()[:-9])
    found = read_capture(cut)
    pd.testing.assert_frame_equal(found.flows.iloc[:1], expected.flows.iloc[:1])
    assert "cut.pcap.gz: the gzip file is damaged or cut" in found.notes[0]
    cut.write_bytes(packed.read_bytes()[:12])
    with pytest.raises(UserError, match=r"cut\.pcap\.gz"):
        read_capture(cut)


def test_what_unpacks_without_end_is_read_up_to_a_bound(tmp_path: Path) -> None:
    plain = write_pcap(tmp_path / "a.pcap", [client(1.0, "S")]).read_bytes()
    bomb = tmp_path / "bomb.pcap.gz"
    with gzip.open(bomb, "wb", 1) as stream:
        stream.write(plain)
        for _ in range((ALWAYS_BYTES >> 20) + 2):
            stream.write(bytes(1 << 20))
    assert bomb.stat().st_size < ALWAYS_BYTES // MOST_RATIO
    capture = read_capture(bomb)
    assert capture.flows["orig_pkts"].tolist() == [1]
    assert f"unpack to more than {ALWAYS_BYTES}; the rest was not read" in capture.notes[0]
    assert "damaged or cut after packet 1 " in capture.notes[1]


def test_a_git_lfs_pointer_is_called_what_it_is(tmp_path: Path) -> None:
    pointer = tmp_path / "a.pcap"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 8337\n")
    for path in (pointer, tmp_path):
        with pytest.raises(UserError, match=r"a\.pcap is a Git LFS pointer.*git lfs pull"):
            read_capture(path)
    write_pcap(tmp_path / "b.pcap", [client(1.0, "S")])
    assert read_capture(tmp_path).notes == ("a.pcap: a Git LFS pointer, not its file, was skipped",)


def test_read_capture_reads_a_pcap_called_log(shared: Path, tmp_path: Path) -> None:
    pcap = shared / "data" / "quickdraw" / "CL5000EIP-Reboot-or-Restart.pcap"
    shutil.copy(pcap, tmp_path / "conn.log")
    flows = read_capture(str(tmp_path / "conn.log")).flows
    assert "192.168.10.120" in set(flows["id.resp_h"])
    pd.testing.assert_frame_equal(flows, read_capture(pcap).flows)


def test_read_capture_takes_the_pcaps_of_a_folder_before_its_logs(shared: Path) -> None:
    folder = shared / "data" / "iot23" / "honeypot-4-1"
    assert "label" not in read_capture(folder).flows
    assert "label" in read_capture(folder / "conn.log.labeled").flows


def test_read_capture_joins_the_pcaps_of_a_folder(shared: Path) -> None:
    folder = shared / "data" / "quickdraw"
    parts = [
        read_capture(path).activity["orig_pkts"].sum() for path in sorted(folder.glob("*.pcap"))
    ]
    assert len(parts) == 4
    assert read_capture(folder).activity["orig_pkts"].sum() == sum(parts)


def test_read_capture_joins_the_logs_of_a_folder(tmp_path: Path) -> None:
    for ts in (20, 10):
        (tmp_path / f"conn.{ts}:00:00-{ts + 1}:00:00.log").write_text(CONN.format(ts=ts))
    assert read_capture(tmp_path).flows["ts"].tolist() == [10.0, 20.0]


def test_read_capture_refuses_what_holds_no_capture(tmp_path: Path) -> None:
    (tmp_path / "text.pcap").write_text("this is no capture")
    (tmp_path / "page.pcap").write_text("<!doctype html><title>Log in</title>")
    (tmp_path / "packed.pcap").write_bytes(b"PK\x03\x04\x14\x00")
    (tmp_path / "empty.pcap").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("nothing here")
    expected = {
        "nowhere.pcap": "does not exist",
        "text.pcap": "is not a Zeek log (it starts with 'this is no captu')",
        "page.pcap": "is not a Zeek log: it is a page of HTML or XML, as a login or an error saves one (it",
        "packed.pcap": "is not a Zeek log: it is a zip, to be unpacked first; expected",
        "empty.pcap": "is empty",
        "folder": "holds no capture (1 files searched for pcap and pcapng, and for Zeek's conn*.log and conn*.log.gz)",
    }
    for name, words in expected.items():
        with pytest.raises(UserError) as caught:
            read_capture(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name} {words}")
        assert str(caught.value).count("; ") == 2


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated plant in which two machines use one address, which no flow tells."""
    folder = tmp_path_factory.mktemp("plant") / "doubled"
    write_simulation(
        simulate(seed=9114, devices=6, hours=0.2, scenarios=("misconfiguration",)), folder
    )
    return folder


def test_evidence_beside_a_simulated_log_is_read_whichever_way_it_is_named(doubled: Path) -> None:
    written = pd.read_csv(doubled / "evidence.csv")
    for path in (doubled, doubled / "conn.log"):
        read = read_capture(path).evidence
        assert read["count"].sum() == written["count"].sum()
        assert sorted(read["kind"].unique()) == sorted(written["kind"].unique())


@pytest.mark.parametrize(
    "text", ["", "slot,src\n1,2\n", "slot,src,dst,kind,code,count,distinct\nx,a,b,reset,-1,1,1\n"]
)
def test_evidence_that_is_none_is_refused_by_name(doubled: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(doubled / "conn.log", tmp_path)
    (tmp_path / "evidence.csv").write_text(text, encoding="utf-8")
    with pytest.raises(
        UserError,
        match=r"evidence\.csv cannot be read: .+; expected what faultwise simulate writes",
    ):
        read_capture(tmp_path)

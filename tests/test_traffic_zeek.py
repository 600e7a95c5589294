"""Zeek's conn.log in every form it is written in, what beside it counts, and what bad input
gets."""

import gzip
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic.capture import COUNTS, FLOW_COLUMNS, Capture
from traffic.errors import UserError
from traffic.samples import make_samples
from traffic.zeek import read_zeek, write_conn_log
from traffic.zeek.conn import KeptLogs
from traffic.zeek.logs import LogReader, read_log
from traffic.zeek.shares import Shares, cut_log, estimate_rows, map_shares, share_windows

HEAD = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"


def words(text: str) -> list[str]:
    return text.split()


FIELDS = words(
    "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state local_orig "
    "local_resp missed_bytes history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes tunnel_parents"
)
# A Modbus poll, a UDP packet with nothing back, and a DNS query with its answer; Zeek writes first
# what ends first.
MODBUS, SILENT, LOOKUP = map(
    words,
    (
        "1000.5 C1 10.0.0.1 40001 10.0.0.2 502 tcp modbus 12.25 120 90 SF - - 0 ShADadFf 10 640 8 500 -",
        "999.0 C2 10.0.0.1 5000 10.0.0.9 5001 udp - - - - S0 - - 0 D 1 60 0 0 (empty)",
        "1020.0 C3 10.0.0.1 5002 10.0.0.3 53 udp dns 0.5 40 80 SF - - 0 Dd 1 68 1 108 -",
    ),
)
ENDS = ("10.0.0.1", "10.0.0.2")


def tsv(rows: list[list[str]], fields: list[str] | None = None, head: str = HEAD) -> str:
    fields = FIELDS if fields is None else fields
    return head + "\n".join("\t".join(row) for row in [["#fields", *fields], *rows]) + "\n"


def without(column: str) -> str:
    kept = [i for i, field in enumerate(FIELDS) if field != column]
    return tsv([[MODBUS[i] for i in kept]], [FIELDS[i] for i in kept])


def write(folder: Path, text: str, name: str = "conn.log") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def read_rows(folder: Path, *rows: list[str]) -> Capture:
    return read_zeek(write(folder, tsv(list(rows))))


def changed(row: list[str], **values: str) -> list[str]:
    known = dict(zip(FIELDS, row, strict=True))
    return list(
        (known | {name.replace("id_", "id."): text for name, text in values.items()}).values()
    )


def as_json(rows: list[list[str]]) -> str:
    def value(column: str, text: str) -> object:
        if column in {"ts", *COUNTS}:
            return float(text)
        return int(text) if column.endswith("_p") else text

    cells = (
        [cell for cell in zip(FIELDS, row, strict=True) if cell[1] not in {"-", "(empty)"}]
        for row in rows
    )
    return "".join(json.dumps({c: value(c, t) for c, t in row}) + "\n" for row in cells)


def kinds(path: Path) -> dict[tuple[str, str, str, int], int]:
    evidence = read_zeek(path).evidence
    return {(e.kind, e.src, e.dst, e.code): e.count for e in evidence.itertuples(index=False)}


# ---- real captures ----


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("34-1", {"DDoS": 14394, "C&C": 6706, "-": 1923, "PartOfAHorizontalPortScan": 122}),
        ("44-1", {"C&C": 14, "C&C-FileDownload": 11, "DDoS": 1, "-": 211}),
        ("20-1", {"C&C-Torii": 16, "-": 3193}),
        ("honeypot-4-1", {"-": 452}),
        ("honeypot-5-1", {"-": 1374}),
    ],
)
def test_read_zeek_reads_every_flow_and_label_of_iot23(shared, name, labels):
    capture = read_zeek(shared / "data" / "iot23" / name / "conn.log.labeled")
    assert capture.flows["detailed-label"].fillna("-").value_counts().to_dict() == labels
    assert set(capture.flows["label"].str.lower()) <= {"benign", "malicious"}
    assert capture.notes == ()
    assert capture.flows["ts"].is_monotonic_increasing
    assert capture.flows["id.orig_p"].dtype == "int64"


def test_read_zeek_keeps_values_of_a_real_row(shared):
    flows = read_zeek(shared / "data" / "iot23" / "34-1" / "conn.log.labeled").flows
    wanted = {
        "ts": 1545403848.981338, "duration": 1.477656, "orig_bytes": 149, "resp_bytes": 128252,
        "id.orig_h": "192.168.1.195", "id.orig_p": 41040, "id.resp_h": "185.244.25.235", "id.resp_p": 80,
        "service": "http", "conn_state": "SF", "history": "ShADadttcfF", "missed_bytes": 2896,
    }  # fmt: skip
    assert flows.set_index("uid").loc["CDrkrSobGYxHhYfth", list(wanted)].to_dict() == wanted


def test_read_zeek_finds_the_failing_lookups_of_a_real_log(shared):
    evidence = read_zeek(shared / "data" / "iot23" / "34-1" / "conn.log.labeled").evidence
    counts = evidence.groupby("kind")["count"].sum()
    # 150 rows without an answer hold 287 queries, 42 rows with one hold 61; ICMP and IPv6 have
    # none.
    assert (counts["dns_query"], counts["dns_failed"]) == (287 + 61, 287)


# ---- forms ----


def test_read_zeek_sorts_and_types_a_plain_log(tmp_path):
    flows = read_rows(tmp_path, MODBUS, SILENT, LOOKUP).flows
    assert list(flows.columns) == FLOW_COLUMNS
    assert flows["uid"].tolist() == ["C2", "C1", "C3"]
    assert flows["ts"].tolist() == [999.0, 1000.5, 1020.0]
    assert flows["orig_ip_bytes"].tolist() == [60.0, 640.0, 68.0]
    assert np.isnan(flows["duration"][0])
    assert pd.isna(flows["service"][0])
    texts = words("uid proto service history conn_state id.resp_h")
    assert set(flows[texts].dtypes.astype(str)) == {"str"}


def forms(folder: Path) -> dict[str, Path]:
    rows = [MODBUS, SILENT, LOOKUP]
    plain = tsv(rows)
    turned, back = [row[::-1] for row in rows], FIELDS[::-1]
    types = "\n#types\t" + "\t".join(["string"] * 21) + "\n1000.5"
    others = tsv(rows, head="#separator |\n#unset_field|?\n").replace("\t", "|").replace("|-", "|?")
    joint = [*FIELDS[:-1], "tunnel_parents   label   detailed-label"]
    iot23 = tsv([[*row[:-1], f"{row[-1]}   Malicious   C&C"] for row in rows], joint)
    texts = {
        "plain": plain,
        "windows line ends": plain.replace("\n", "\r\n"),
        "closed": plain + "#close\t2019-12-05-15-46-36\n",
        "concatenated": tsv([MODBUS]) + "#close\tx\n" + tsv([SILENT, LOOKUP]),
        "columns change": tsv([MODBUS]) + tsv(turned[1:], back),
        "json": as_json(rows),
        "other order": tsv(turned, back),
        "other separators": others,
        "iot23, closed, no newline": iot23 + "#close\t2019-12-05-15-46-36   Malicious   C&C",
        "types line": plain.replace("\n1000.5", types),
        "extra column": tsv([[*row, "x"] for row in rows], [*FIELDS, "vlan"]),
    }
    return {name: write(folder, text, f"{i}.log") for i, (name, text) in enumerate(texts.items())}


def test_read_zeek_reads_every_form_alike(tmp_path):
    expected = read_zeek(write(tmp_path, tsv([MODBUS, SILENT, LOOKUP]), "zero.log"))
    for form, path in forms(tmp_path).items():
        capture = read_zeek(path)
        assert capture.notes == (), form
        pd.testing.assert_frame_equal(capture.flows[FLOW_COLUMNS], expected.flows, obj=form)
        pd.testing.assert_frame_equal(capture.activity, expected.activity, obj=form)
        packed = tmp_path / "packed"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        zipped = read_zeek(packed).flows
        pd.testing.assert_frame_equal(zipped, capture.flows, obj=f"{form}, gzipped")


NUMBERS = {"ts", "id.orig_p", "id.resp_p", *COUNTS}
ALL_KINDS = {name: "number" if name in NUMBERS else "text" for name in FLOW_COLUMNS}


@pytest.mark.parametrize("piece_bytes", [1, 100, 300])
def test_a_log_read_in_small_pieces_is_the_same_log(tmp_path, piece_bytes):
    damaged = tsv([MODBUS, ["garbage"], SILENT, MODBUS[:-1], LOOKUP])
    paths = [*forms(tmp_path).values(), write(tmp_path, damaged, "damaged.log")]
    for path in paths:
        packed = path.with_suffix(".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        whole = read_log(path, ALL_KINDS, ("ts",), "conn.log")
        for one in (path, packed):
            reader = LogReader(one, ALL_KINDS, ("ts",), "conn.log", piece_bytes=piece_bytes)
            rows = [row for piece in reader.read() for row in piece.to_pylist()]
            known = [{c: row.get(c) for c in whole.table.column_names} for row in rows]
            assert known == whole.table.to_pylist(), one
            assert [n.split(": ")[1] for n in reader.notes()] == [
                n.split(": ")[1] for n in whole.notes
            ]
    assert whole.notes == ("damaged.log: 2 malformed rows were skipped, the first on line 8.",)


def test_read_zeek_reads_parquet_with_the_names_of_conn_log(tmp_path):
    expected = read_rows(tmp_path, MODBUS, SILENT, LOOKUP)
    table = expected.flows.assign(
        **{"ts": pd.to_datetime(expected.flows["ts"], unit="s", utc=True)}
    )
    (tmp_path / "columns").mkdir()
    table.to_parquet(tmp_path / "columns" / "conn.parquet")
    capture = read_zeek(tmp_path / "columns")
    pd.testing.assert_frame_equal(capture.flows, expected.flows)
    pd.testing.assert_frame_equal(capture.activity, expected.activity)
    assert capture.notes == ()
    table.assign(proto=None).to_parquet(tmp_path / "bad.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "bad.parquet").read_bytes()[:300])
    table.drop(columns="duration").to_parquet(tmp_path / "less.parquet")
    for name, words in (
        ("bad", "no well-formed row"), ("cut", "cannot be read as Parquet"), ("less", "no column duration"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            read_zeek(tmp_path / f"{name}.parquet")


def test_a_line_without_end_is_one_malformed_row(tmp_path):
    endless = b"1000.5\t" + bytes(9 << 20)
    text = tsv([MODBUS]).encode() + endless + b"\n" + tsv([LOOKUP])[len(tsv([])) :].encode()
    path = tmp_path / "conn.log.gz"
    path.write_bytes(gzip.compress(text))
    capture = read_zeek(path)
    assert capture.flows["uid"].tolist() == ["C1", "C3"]
    assert capture.notes == ("conn.log.gz: 1 malformed row was skipped, the first on line 8.",)


def test_read_zeek_splits_the_joint_columns_of_iot23(tmp_path):
    fields = [*FIELDS[:-1], "tunnel_parents   label   detailed-label"]
    rows = [[*MODBUS[:-1], "-   benign   -"], [*SILENT[:-1], "(empty)   Malicious   C&C-HeartBeat"]]
    flows = read_zeek(write(tmp_path, tsv(rows, fields).rstrip("\n"))).flows
    assert flows["label"].tolist() == ["Malicious", "benign"]
    assert flows["detailed-label"].fillna("-").tolist() == ["C&C-HeartBeat", "-"]


def test_read_zeek_reads_times_that_json_holds_as_text(tmp_path):
    entry = json.loads(as_json([MODBUS])) | {"ts": "1970-01-01T00:16:40.500000Z"}
    assert read_zeek(write(tmp_path, json.dumps(entry))).flows["ts"].tolist() == [1000.5]


def test_read_zeek_joins_a_folder_of_rotated_logs_without_the_summary(tmp_path):
    packed = gzip.compress(tsv([MODBUS, SILENT]).encode())
    (tmp_path / "conn.12:00:00-13:00:00.log.gz").write_bytes(packed)
    write(tmp_path, tsv([LOOKUP, MODBUS]), "conn.13:00:00-14:00:00.log")
    write(tmp_path, "no log at all", "conn-summary.12:00:00-13:00:00.log")
    write(tmp_path, "no log at all", "conn_summary.log")
    capture = read_zeek(tmp_path)
    assert capture.flows["uid"].tolist() == ["C2", "C1", "C3"]
    assert capture.notes == ("1 rows that stand in more than one of the logs were counted once.",)


def test_a_folder_that_grows_is_read_as_if_nothing_were_kept(tmp_path):
    kept = KeptLogs()

    def check() -> Capture:
        whole, again = read_zeek(tmp_path), read_zeek(tmp_path, kept)
        for name in ("flows", "activity", "evidence", "sessions", "exchanges"):
            pd.testing.assert_frame_equal(getattr(again, name), getattr(whole, name))
        assert again.notes == whole.notes
        return again

    lost = changed(MODBUS, uid="C4", ts="1003.0", history="ShTADadttFfR")
    unasked = changed(LOOKUP, uid="C5", ts="1004.0", resp_pkts="0", resp_ip_bytes="0")
    wrong = changed(SILENT, uid="C6", ts="1001.0", orig_pkts="-7")
    write(tmp_path, tsv([MODBUS, lost]), "conn.1.log")
    first = check()
    write(tmp_path, tsv([MODBUS, lost, unasked]), "conn.1.log")  # a row more
    write(tmp_path, tsv([LOOKUP, wrong]), "conn.2.log")
    grown = check()
    assert set(first.evidence["kind"]) == {"retransmission", "reset"}
    assert set(grown.evidence["kind"]) == {"retransmission", "reset", "dns_query", "dns_failed"}
    write(tmp_path, tsv([unasked, SILENT]), "conn.3.log")  # a row that stands in the first too
    assert len(check().flows) == 6
    (tmp_path / "conn.1.log").unlink()
    assert len(check().flows) == 4


def test_read_zeek_finds_logs_in_folders_by_day(tmp_path):
    for day, row in (("2026-11-19", MODBUS), ("2026-11-20", LOOKUP)):
        (tmp_path / day).mkdir()
        write(tmp_path / day, tsv([row]))
    assert read_zeek(tmp_path).flows["uid"].tolist() == ["C1", "C3"]


# ---- damage ----


BAD_CELLS = words(
    "ts=yesterday ts=- ts=-5 ts=inf duration=long orig_pkts=0x10z id_orig_p=65536 id_resp_p=- "
    "id_orig_h=- proto=-"
)


@pytest.mark.parametrize(
    "bad",
    [
        MODBUS[:-4],
        [*MODBUS, "one more"],
        ["garbage"],
        changed(MODBUS, id_resp_h="host name"),
        *(changed(MODBUS, **dict([cell.split("=")])) for cell in BAD_CELLS),
    ],
)
def test_read_zeek_skips_counts_and_places_malformed_rows(tmp_path, bad):
    capture = read_rows(tmp_path, SILENT, bad, LOOKUP, bad)
    assert capture.flows["uid"].tolist() == ["C2", "C3"]
    assert capture.notes == ("conn.log: 2 malformed rows were skipped, the first on line 8.",)


def test_read_zeek_skips_malformed_json(tmp_path):
    lines = as_json([SILENT, MODBUS, LOOKUP]).splitlines()
    text = "\n".join([lines[0], lines[1][:40], lines[2], "[1]", "", '{"ts": "soon"}'])
    capture = read_zeek(write(tmp_path, text))
    assert capture.flows["uid"].tolist() == ["C2", "C3"]
    assert capture.notes == ("conn.log: 3 malformed rows were skipped, the first on line 2.",)


def test_read_zeek_reads_a_log_with_foreign_bytes(tmp_path):
    path = write(tmp_path, tsv([MODBUS, SILENT]))
    path.write_bytes(path.read_bytes().replace(b"modbus", b"mod\xffbus"))
    assert read_zeek(path).flows["service"].tolist()[1] == "mod\ufffdbus"


def test_read_zeek_counts_a_malformed_row_with_foreign_bytes(tmp_path):
    path = write(tmp_path, tsv([MODBUS, ["gar", "bage"], SILENT]))
    path.write_bytes(path.read_bytes().replace(b"gar", b"\xff"))
    assert read_zeek(path).notes == ("conn.log: 1 malformed row was skipped, the first on line 8.",)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_read_zeek_reads_or_refuses_whatever_is_damaged(tmp_path_factory, data):
    sound = [tsv([MODBUS, SILENT, LOOKUP]).encode(), as_json([MODBUS, SILENT, LOOKUP]).encode()]
    text = bytearray(data.draw(st.sampled_from(sound)))
    junk = st.one_of(
        st.binary(max_size=4),
        st.sampled_from([b"\t", b"\n", b"\r", b"1e400", b"NaN", b"\n#fields\tts\n"]),
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 9))] = data.draw(junk)
    path = tmp_path_factory.mktemp("damage") / "conn.log"
    path.write_bytes(bytes(text))
    try:
        capture = read_zeek(path)
    except UserError:
        return
    assert 1 <= len(capture.flows) <= 4
    assert set(capture.activity["flow"]) == set(range(len(capture.flows)))


def test_read_zeek_reads_an_archive_as_far_as_it_goes(tmp_path):
    times = [f"{1000 + i * 7.31:.2f}" for i in range(400)]
    rows = [
        changed(MODBUS, uid=f"C{i}", ts=ts, orig_bytes=str(i * i)) for i, ts in enumerate(times)
    ]
    packed = gzip.compress(tsv(rows).encode())
    path = tmp_path / "conn.log.gz"
    path.write_bytes(packed[: len(packed) // 2])
    capture = read_zeek(path)
    assert 50 < len(capture.flows) < 400
    assert capture.notes[-1].startswith("conn.log.gz: the archive is cut short")


def test_read_zeek_takes_impossible_counts_as_unknown_and_says_so(tmp_path):
    bad = changed(LOOKUP, duration="1e12", orig_pkts="-1", resp_ip_bytes="1e300")
    capture = read_rows(tmp_path, changed(MODBUS, duration="-3.5"), bad)
    assert capture.flows["duration"].isna().all()
    assert capture.flows["orig_pkts"].isna().tolist() == [False, True]
    assert len(capture.activity) == 2
    assert capture.notes == (
        "2 flows with an impossible duration (first: -3.5): taken as unknown.",
        "1 flows with an impossible orig_pkts (first: -1): taken as unknown.",
        "1 flows with an impossible resp_ip_bytes (first: 1e+300): taken as unknown.",
    )


def test_read_zeek_says_when_the_clock_jumps_back(tmp_path):
    capture = read_rows(tmp_path, *(changed(MODBUS, ts=ts) for ts in ("90000", "80000", "80001")))
    assert capture.flows["ts"].tolist() == [80000.0, 80001.0, 90000.0]
    assert capture.notes == ("The clock jumps back once, by up to 167 min: sorted by time.",)


def test_a_log_sorted_by_start_has_no_clock_that_jumps(tmp_path):
    rows = [changed(MODBUS, ts="80000", duration="9000"), changed(MODBUS, ts="80001", duration="1")]
    assert read_rows(tmp_path, *rows).notes == ()


def test_read_zeek_says_which_useful_column_is_missing(tmp_path):
    capture = read_zeek(write(tmp_path, without("history")))
    assert capture.flows["history"].isna().all()
    assert capture.notes == ("conn.log has no column history: taken as unknown.",)


def test_read_zeek_refuses_with_one_line_each(tmp_path):
    (tmp_path / "empty folder").mkdir()
    less = without("conn_state")
    no_id, no_rows = "has no columns ts, id.orig_h,", "has a header and no rows"
    cases = {
        "nowhere.log": (None, "does not exist"),
        "empty folder": (None, "holds no conn.log"),
        "empty.log": ("", "is empty"),
        "blank.log": (" \n\n", "is empty"),
        "less.log": (less, "has no column conn_state (line 6 lists 20 fields); expected Zeek's conn.log"),
        "weird.log": (tsv([["1", "a"]], ["ts", "name"]), "has no columns id.orig_h,"),
        "header.log": (tsv([]), no_rows),
        "cut.log": (tsv([]).rstrip("\n"), no_rows),
        "bad.log": (tsv([["x"]]), "has no well-formed row"),
        "twice.log": (tsv([MODBUS], [*FIELDS[:-1], "uid"]), "names column uid twice"),
        "headless.log": (HEAD, "has no #fields line"),
        "diary.log": ("dear diary\n", "is not a Zeek log (it starts with 'dear diary"),
        "other.json": ('{"a": 1}\n', no_id),
        "broken.json": ("{broken", no_id),
    }  # fmt: skip
    for name, (text, words) in cases.items():
        path = tmp_path / name if text is None else write(tmp_path, text, name)
        with pytest.raises(UserError) as caught:
            read_zeek(path)
        message = str(caught.value)
        assert message.startswith(str(path)), message
        assert words in message
        assert message.count("; ") == 2, message
        assert "\n" not in message
    for damaged in (b"\x1f\x8b\x08\x00", b"\x1f\x8b\xff\xff" + b"x" * 40):
        path = tmp_path / "conn.log.gz"
        path.write_bytes(damaged)
        with pytest.raises(UserError):
            read_zeek(path)


# ---- evidence ----


def test_flow_evidence_counts_history_letters_by_powers_of_ten(tmp_path):
    evidence = read_rows(tmp_path, changed(MODBUS, history="ShADTTadtwFfR")).evidence
    columns = ["kind", "src", "slot", "dst", "count"]
    found = evidence.sort_values(columns)[columns].to_numpy().tolist()
    # TT means 10, from 1000.5 to 1012.75, 1.36 s apart: seven before 1010. The reset is at the end.
    a, b = ENDS
    assert found == [
        ["reset", a, 101, b, 1],
        ["retransmission", a, 100, b, 7],
        ["retransmission", a, 101, b, 3],
        ["retransmission", b, 100, a, 1],
        ["zero_window", b, 100, a, 1],
    ]


def test_flow_evidence_reads_dns_from_flows(tmp_path):
    silent = {"duration": "5.0", "resp_pkts": "0", "orig_pkts": "2", "conn_state": "S0"}
    dead = changed(LOOKUP, uid="C9", ts="1031", **silent)
    other = changed(LOOKUP, uid="C8", id_resp_p="5353", resp_pkts="0")
    ends = ("10.0.0.1", "10.0.0.3", -1)
    evidence = read_rows(tmp_path, LOOKUP, dead, other).evidence
    assert evidence[["slot", "kind", "count"]].to_numpy().tolist() == [
        [102, "dns_query", 1],
        [103, "dns_failed", 2],
        [103, "dns_query", 2],
    ]
    assert set(zip(evidence["src"], evidence["dst"], evidence["code"], strict=True)) == {ends}


def test_flow_evidence_reads_unreachable_hosts_from_icmp(tmp_path):
    def message(row: list[str], kind: int, code: int, pkts: int = 1) -> list[str]:
        return changed(row, id_orig_p=str(kind), id_resp_p=str(code), orig_pkts=str(pkts))

    icmp = changed(SILENT, proto="icmp")
    icmp6 = changed(icmp, id_orig_h="fd00::1", id_resp_h="fd00::2")
    rows = [message(icmp, 3, 1, 4), message(icmp, 8, 0), message(icmp6, 1, 3), message(icmp6, 3, 0)]
    assert kinds(write(tmp_path, tsv(rows))) == {
        ("unreachable", "10.0.0.1", "10.0.0.9", 1): 4,
        ("unreachable", "fd00::1", "fd00::2", 3): 1,
    }


def beside(folder: Path, name: str, fields: str, *rows: str) -> Path:
    """A log of the ends of MODBUS, beside its conn.log; a row is ``ts|value|...``."""
    split = [row.split("|") for row in rows]
    table = [[ts, *MODBUS[1:6], *values] for ts, *values in split]
    write(folder, tsv(table, [*FIELDS[:6], *fields.split()]), name)
    return write(folder, tsv([MODBUS]))


def test_read_beside_counts_modbus_requests_writes_and_refusals(tmp_path):
    messages = [
        "1001|1|1|READ_HOLDING_REGISTERS|REQ|-",
        "1001|1|1|READ_HOLDING_REGISTERS|RESP|-",
        "1002|2|1|READ_HOLDING_REGISTERS|REQ|-",
        "1002|2|1|READ_HOLDING_REGISTERS_EXCEPTION|RESP|ILLEGAL_DATA_ADDRESS",
        "1011|3|1|WRITE_MULTIPLE_REGISTERS|REQ|-",
        "1012|4|1|DIAGNOSTICS|REQ|-",
        "1013|5|1|unknown-100|REQ|-",
    ]
    path = beside(tmp_path, "modbus.log", "tid unit func pdu_type exception", *messages)
    once = (("exception", 2), ("write", 16), ("other", 8), ("other", 100))
    counts = {(f"modbus_{kind}", *ENDS, code): 1 for kind, code in once}
    assert kinds(path) == {("modbus_read", *ENDS, 3): 2, **counts}


def test_read_beside_takes_old_modbus_messages_in_turns(tmp_path):
    messages = [*["1001|READ_COILS|-"] * 3, "1001|READ_COILS|SLAVE_DEVICE_BUSY"]
    path = beside(tmp_path, "modbus.log", "func exception", *messages)
    assert kinds(path) == {("modbus_read", *ENDS, 1): 2, ("modbus_exception", *ENDS, 6): 1}


def test_read_beside_counts_mqtt(tmp_path):
    refused = ("1002|Refused: not authorized", "1003|unknown-return-code-135")
    connects = ("1001|Connection Accepted", *refused, "1004|-")
    beside(tmp_path, "mqtt_connect.log", "connect_status", *connects)
    topics = ("1001|T|a/b", "1002|T|a/b", "1003|T|a/c", "1004|F|a/c")
    beside(tmp_path, "mqtt_publish.log", "from_client topic", *topics)
    failed = ("1001|protocol|MQTT", "1002|protocol|HTTP")
    path = beside(tmp_path, "analyzer.log", "analyzer_kind analyzer_name", *failed)
    assert kinds(path) == {
        ("mqtt_connect", *ENDS, -1): 4,
        ("mqtt_refused", *ENDS, 5): 1,
        ("mqtt_refused", *ENDS, 135): 1,
        ("mqtt_publish", *ENDS, -1): 3,
        ("mqtt_publish", *ENDS[::-1], -1): 1,
        ("mqtt_malformed", *ENDS, -1): 1,
    }
    published = read_zeek(path).evidence.query("kind == 'mqtt_publish' and src == '10.0.0.1'")
    assert published["distinct"].tolist() == [2]


def test_read_beside_reads_dns_once(tmp_path):
    path = write(tmp_path, tsv([LOOKUP]))
    start = {"ts": 1021.0, "id.orig_h": "10.0.0.1", "id.resp_h": "10.0.0.3", "id.resp_p": 53}
    entries = [
        {**start, "query": "a.example", "rcode": 0, "rcode_name": "NOERROR"},
        {**start, "query": "b.example", "rcode": 3, "rcode_name": "NXDOMAIN"},
        {**start, "query": "b.example"},
        {**start, "query": "c.local", "id.resp_p": 5353},
    ]
    write(tmp_path, "\n".join(map(json.dumps, entries)), "dns.log")
    counts = {("dns_query", -1): 3, ("dns_failed", 3): 1, ("dns_failed", -1): 1}
    assert kinds(path) == {
        (kind, "10.0.0.1", "10.0.0.3", n): count for (kind, n), count in counts.items()
    }
    evidence = read_zeek(path).evidence
    assert evidence.loc[evidence["kind"] == "dns_query", "distinct"].tolist() == [2]


def test_read_beside_belongs_to_the_same_hour(tmp_path):
    hours = {".12:00:00-13:00:00": 1001, ".13:00:00-14:00:00": 4001, "": 9001}
    for hour, ts in hours.items():
        beside(tmp_path, f"modbus{hour}.log", "func pdu_type", f"{ts}|READ_COILS|REQ")
    path = write(tmp_path, tsv([MODBUS]), "conn.12:00:00-13:00:00.log")
    assert read_zeek(path).evidence["slot"].tolist() == [100]


def test_read_beside_says_what_zeek_found_odd_and_what_could_not_be_read(tmp_path):
    odd = ("1001|bad_TCP_checksum", "1002|bad_TCP_checksum", "1003|<script>")
    beside(tmp_path, "weird.log", "name", *odd)
    path = beside(tmp_path, "capture_loss.log", "percent_lost", "1001|0.0", "1901|12.34")
    write(tmp_path, "", "dns.log")
    capture = read_zeek(path)
    assert capture.notes == (
        f"dns.log was left out: {tmp_path}/dns.log is empty; expected a pcap or a Zeek log; "
        "record it again or pass another path",
        "weird.log beside it holds 3 rows, most of them bad_TCP_checksum (2).",
        "capture_loss.log: Zeek itself missed up to 12.3 % of the traffic.",
    )


# ---- writing ----


def written(flows: pd.DataFrame) -> str:
    stream = io.StringIO()
    write_conn_log(flows, stream)
    return stream.getvalue()


_text = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=8
).filter(lambda text: text not in {"-", "(empty)"})
_micro = st.integers(0, 2_000_000_000_000_000).map(lambda micro: float(f"{micro / 1e6:.6f}"))
_address = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
_count, _word = st.none() | st.integers(0, 2**50), st.none() | _text
_flow = st.fixed_dictionaries(
    {
        **dict.fromkeys(COUNTS, _count),
        **dict.fromkeys(words("uid service history conn_state label detailed-label"), _word),
        "ts": _micro,
        "duration": st.none() | st.integers(0, 10**12).map(lambda micro: micro / 1e6),
        **dict.fromkeys(("id.orig_h", "id.resp_h"), _address),
        **dict.fromkeys(("id.orig_p", "id.resp_p"), st.integers(0, 65535)),
        "proto": st.sampled_from(["tcp", "udp", "icmp"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_flow, min_size=1, max_size=5))
def test_what_is_written_reads_back_equal(tmp_path_factory, rows):
    columns = [*FLOW_COLUMNS, "label", "detailed-label"]
    flows = pd.DataFrame(rows, columns=columns).sort_values("ts", kind="stable", ignore_index=True)
    types = dict.fromkeys(columns, "str") | dict.fromkeys(("id.orig_p", "id.resp_p"), "int64")
    flows = flows.astype(types | dict.fromkeys(("ts", *COUNTS), "float64"))
    path = write(tmp_path_factory.mktemp("law"), written(flows))
    pd.testing.assert_frame_equal(read_zeek(path).flows, flows)


def test_a_real_log_reads_back_equal(shared, tmp_path):
    flows = read_zeek(shared / "data" / "iot23" / "honeypot-5-1" / "conn.log.labeled").flows
    text = written(flows)
    pd.testing.assert_frame_equal(read_zeek(write(tmp_path, text)).flows, flows)
    assert text.splitlines()[5].startswith("#fields\tts\tuid\tid.orig_h\t")


def test_text_that_would_break_a_row_is_written_as_its_code(tmp_path):
    flows = read_rows(tmp_path, MODBUS).flows.assign(service="a\tb\n", history="-")
    again = read_zeek(write(tmp_path, written(flows))).flows
    assert (again["service"][0], again["history"][0]) == ("a\\x09b\\x0a", "\\x2d")


# ---- logs larger than memory ----


def share_out(path: Path, folder: Path, **how) -> tuple[list[pd.DataFrame], Shares]:
    """The samples of each share of a cut log."""
    folder.mkdir()
    shares = cut_log(path, folder, **how)
    make = partial(share_windows, shares=shares)
    found = [windows.samples for windows in map_shares(make, shares)]
    return found, shares


@pytest.mark.parametrize("share_rows", [100, 400])
def test_shares_of_a_log_give_the_samples_of_the_whole(shared, tmp_path, share_rows):
    whole = tmp_path / "plant"
    whole.mkdir()
    names = ("honeypot-5-1", "44-1", "honeypot-4-1")
    logs = [
        read_zeek(shared / "data" / "iot23" / name / "conn.log.labeled").flows for name in names
    ]
    for i, flows in enumerate(logs):
        flows = flows.assign(ts=flows["ts"] - flows["ts"].min() + 1e9 + 600 * i)
        with (whole / f"conn.{i}.log").open("w") as stream:
            write_conn_log(flows, stream)
    queries = [f"{1e9 + 40 * i}|a{i % 7}.example|{i % 3}" for i in range(60)]
    beside(whole, "dns.0.log", "query rcode", *queries)
    (whole / "conn.log").unlink()
    write(whole, "", "modbus.0.log")
    capture = read_zeek(whole)
    expected = make_samples(capture)
    samples, shares = share_out(whole, tmp_path / "shares", share_rows=share_rows)
    assert len(samples) > 1
    assert shares.rows == sum(map(len, logs))
    assert shares.notes == capture.notes
    assert "modbus.0.log was left out" in shares.notes[-1]
    found = pd.concat(samples).sort_values(["device", "start_s"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_shares_hold_each_row_once_and_say_what_was_repaired(tmp_path):
    rows = [MODBUS, changed(SILENT, orig_pkts="-1"), ["garbage"], LOOKUP]
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs", tsv(rows), "conn.1.log")
    write(tmp_path / "logs", tsv([MODBUS, LOOKUP]), "conn.2.log")
    samples, shares = share_out(tmp_path / "logs", tmp_path / "shares", share_rows=1)
    expected = make_samples(read_zeek(tmp_path / "logs"))
    found = pd.concat(samples).sort_values(["device", "start_s"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected)
    assert shares.notes == (
        "conn.1.log: 1 malformed row was skipped, the first on line 9.",
        "1 flows with an impossible orig_pkts (first: -1): taken as unknown.",
    )
    assert estimate_rows(tmp_path / "logs") == pytest.approx(6, abs=5)


def test_shares_are_analysed_by_workers_of_dask_alike(shared, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    log = shared / "data" / "iot23" / "honeypot-5-1" / "conn.log.labeled"
    shares = cut_log(log, tmp_path, share_rows=200)
    make = partial(share_windows, shares=shares)
    here = list(map_shares(make, shares))
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )
    with cluster, distributed.Client(cluster) as client:
        there = list(map_shares(make, shares, client))
    assert len(here) == len(there) > 2
    for one, other in zip(here, there, strict=True):
        pd.testing.assert_frame_equal(one.table, other.table)
        pd.testing.assert_frame_equal(one.samples, other.samples)
        np.testing.assert_array_equal(one.rows, other.rows)

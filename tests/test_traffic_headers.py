"""Headers as structured arrays, also where the buffer ends within one."""

import numpy as np
import pytest

from traffic.pcap.records import header_type, read_headers

_HEADER = header_type(4, first=(0, "u1"), number=(2, ">u2"))


@pytest.mark.parametrize("length", [2, 7, 8, 20])
def test_what_lies_past_the_end_reads_as_zero(length: int) -> None:
    buffer = np.arange(1, length + 1, dtype=np.uint8)
    at = np.array([0, length - 3, length - 1, length, length + 100])
    at = at[at >= 0]
    padded = np.append(buffer, np.zeros(200, np.uint8)).astype(int)
    found = read_headers(buffer, at, _HEADER)
    assert found["first"].tolist() == [padded[i] for i in at]
    assert found["number"].tolist() == [padded[i + 2] << 8 | padded[i + 3] for i in at]

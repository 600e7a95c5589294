"""Zeek's logs: read as a capture, written from flows."""

from traffic.zeek.conn import read_zeek, write_conn_log

__all__ = ["read_zeek", "write_conn_log"]

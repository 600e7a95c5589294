"""What Prometheus reads: alarms by tier and state, the sensor, open captures, requests, questions."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from assistant.api.desk import Desk
from assistant.monitor.alarm_list import list_alarms, read_meter

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one server, and what the history holds whenever they are read."""

    def __init__(self, desk: Desk) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_OfHistory(desk))
        self.requests = Counter(
            "faultwise_requests_total", "Requests by path and status", ["path", "status"],
            registry=self._registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "faultwise_request_seconds", "Time of a request", ["path"], buckets=_BUCKETS,
            registry=self._registry,
        )  # fmt: skip

    def count(self, path: str, status: int, took_s: float) -> None:
        """Count one request; ``path`` is the route's pattern, never what a client wrote."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(took_s)

    def render(self) -> bytes:
        """The text of /metrics (Prometheus exposition format 0.0.4)."""
        return generate_latest(self._registry)


class _OfHistory(Collector):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the gauges anew."""
        desk, labels = self._desk, ["tier", "priority", "state"]
        counts: dict[tuple[str, ...], int] = {}
        alarms = list_alarms(desk.history, since_s=time.time() - 86_400)
        for one in alarms:
            key: tuple[str, ...] = (one.tier, one.priority, desk.standing(one).state)
            counts[key] = counts.get(key, 0) + 1
        gauge = GaugeMetricFamily("faultwise_alarms", "Alarms of a day by state", labels=labels)
        for names, n in sorted(counts.items()):
            gauge.add_metric(names, n)
        yield gauge
        sensor = [one for one in alarms if one.label == "sensor" and one.returned_s is None]
        about = "Conditions of the sensor that go on; 0 is well"
        yield GaugeMetricFamily("faultwise_sensor_conditions", about, value=len(sensor))
        newest_s = max((one.incident_end_s for one in alarms), default=time.time())
        meter = read_meter(desk.history, newest_s)
        about = "Alarms of the last ten minutes, by the traffic's clock"
        yield GaugeMetricFamily("faultwise_alarms_last_ten_minutes", about, value=meter.last)
        yield GaugeMetricFamily("faultwise_alarm_flood", "1 in a flood", value=float(meter.flood))
        captures = desk.captures()["total"]
        yield GaugeMetricFamily("faultwise_open_captures", "Captures open", value=captures)

"""What each kind of device does for its living, as a table: behaviours, and how likely each is."""

from traffic.simulated_media import camera
from traffic.simulated_messaging import sensor, subscriber
from traffic.simulated_offices import archive, batches, engineer, history, remote
from traffic.simulation.devices import axes, controller, implicit_io

__all__ = ["MACHINES"]

MACHINES = {
    "plc": ((controller, 1.0), (implicit_io, 0.3)),
    "drive": ((controller, 1.0),),
    "gateway": ((controller, 1.0),),
    "robot": ((axes, 1.0), (remote, 0.45)),
    "sensor": ((sensor, 1.0),),
    "camera": ((camera, 1.0), (remote, 0.35)),
    "hmi": ((subscriber, 0.1),),
    "edge": ((subscriber, 0.95), (batches, 0.95), (remote, 0.7)),
    "historian": ((history, 0.85), (subscriber, 0.04), (archive, 0.1), (remote, 0.35)),
    "recorder": ((archive, 0.1),),
    "server": ((subscriber, 0.4), (archive, 0.5)),
    "workstation": ((engineer, 0.8),),
}

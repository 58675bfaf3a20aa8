"""The status of an instance, as `tiger status` shows it."""

from registry.records import Record
from serve_app.instance.serve_client import ApplicationState
from serve_app.instance.waits import Wait


class InstanceStatus(Record):
    storage: str
    ray: str
    applications: tuple[ApplicationState, ...]
    waits: tuple[Wait, ...] = ()
    is_ready: bool
    detail: str

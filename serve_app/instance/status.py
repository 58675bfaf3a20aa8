"""The status of an instance, as `tiger status` shows it."""

from registry.records import Record
from serve_app.instance.serve_client import ApplicationState


class InstanceStatus(Record):
    storage: str
    ray: str
    applications: tuple[ApplicationState, ...]
    is_ready: bool
    detail: str

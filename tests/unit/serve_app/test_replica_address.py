import inspect
from typing import Any

from serve_app.ray_private import replica
from serve_app.replica_address import EVERYWHERE, _narrowed


def test_what_ray_would_open_to_the_whole_machine_is_at_the_nodes_address() -> None:
    asked: list[tuple[Any, str]] = []

    def add_port(server: Any, address: str) -> int:
        asked.append((server, address))
        return 1

    narrowed = _narrowed(add_port)
    assert (narrowed("server", EVERYWHERE), narrowed("server", "10.0.0.1:5")) == (1, 1)
    assert asked[0][0] == "server" and asked[0][1].endswith(":0") and asked[0][1] != EVERYWHERE
    assert asked[1] == ("server", "10.0.0.1:5")


def test_ray_still_asks_in_the_way_that_is_changed() -> None:
    assert f'add_port_to_grpc_server(self._server, "{EVERYWHERE}")' in inspect.getsource(replica)

"""The Catalog as a deployment of Ray Serve: its settings come from Serve, and change while it runs."""

from serve_app.catalog.catalog import Catalog
from serve_app.deployed_settings import Document, core_settings, new_or_former
from serve_app.ray_private import user_config_of_this_replica
from serve_app.replica_address import listen_at_the_node
from serve_app.state_gauges import StateGauges
from serve_app.this_cluster import this_cluster


class CatalogDeployment(Catalog):
    """The one replica. `args` are the settings with which it starts."""

    def __init__(self, args: Document, lease_term_s: float) -> None:
        listen_at_the_node()
        self._args = args
        self._configured = core_settings(args, user_config_of_this_replica())
        self._state = StateGauges("Catalog")
        super().__init__(self._configured, lease_term_s, this_cluster)

    async def reconfigure(self, user_config: Document) -> None:
        """Changes the settings. The lists in memory and the leases stay."""
        former = self._configured
        self._configured = new_or_former(core_settings, self._args, user_config, former)
        self._state.tell_refused(self._configured is former)
        self.apply(self._configured)

    async def check_health(self) -> None:
        try:
            await super().check_health()
        finally:
            self._state.tell_superseded(self._leadership.is_superseded)

"""Chooses the replica for a request of a private model. Every handle of a ModelServer uses this router.

Serve's own router sends all requests for an adapter to the replicas that have it loaded, as long as they
accept. Ours accept always, because `model_server.admission` decides. One busy adapter would therefore stay
on one replica while the others have nothing to do.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from ray.serve.request_router import PendingRequest, RunningReplica

from serve_app.ray_private import PowerOfTwoChoicesRequestRouter

R = TypeVar("R")


class AdapterRouter(PowerOfTwoChoicesRequestRouter):
    """Prefers the replicas that have the adapter, until they have `max_lead` more requests in progress.

    The next request then goes to the replica with the fewest requests, which loads the adapter too.
    """

    def initialize_state(self, max_lead: int) -> None:
        self._max_lead = max_lead

    async def choose_replicas(
        self,
        candidate_replicas: Sequence[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        adapter_id = pending_request.metadata.multiplexed_model_id if pending_request else ""
        by_id = {each.replica_id: each for each in candidate_replicas}
        num_in_progress = {each: self.replica_queue_len_cache.get(each) or 0 for each in by_id}
        having = [each for each, replica in by_id.items() if adapter_id in replica.multiplexed_model_ids]
        idlest = much_idler(num_in_progress, having, self._max_lead)
        if idlest is not None:
            return [[by_id[idlest]]]
        chosen: list[list[RunningReplica]] = await super().choose_replicas(
            candidate_replicas, pending_request
        )
        return chosen


def much_idler(num_in_progress: Mapping[R, int], having: Collection[R], max_lead: int) -> R | None:
    """Returns the replica with the fewest requests if all that have the adapter have `max_lead` more.

    Returns None if Serve's own router should choose: there is no such replica, or none has the adapter.
    """
    if not having:
        return None
    idlest = min(num_in_progress, key=num_in_progress.__getitem__)
    lead = min(num_in_progress[each] for each in having) - num_in_progress[idlest]
    return idlest if lead >= max_lead else None

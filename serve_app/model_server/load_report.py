"""The load that a replica of a base model reports to Serve, by which Serve chooses the number of replicas."""

from serve_app.model_server.admission import Admission
from serve_app.model_server.scaling_policy import GENERATIONS


class ReportsLoad:
    """A replica that reports the number of its generations."""

    _admission: Admission

    async def num_generations(self) -> int:
        """Returns the number of generations in this replica that wait or run."""
        return self._admission.num_all_generations

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Returns the load of this replica. Serve asks for it regularly if the deployment autoscales."""
        return {GENERATIONS: self._admission.num_all_generations}

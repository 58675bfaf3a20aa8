"""vLLM's worker on the CPU, with a model runner that can turn a seeded request's generator back.

A step samples for every request in it, also for one whose prompt is not read to its end. vLLM throws such a
token away and turns the request's generator back by `set_offset`. A generator of the CPU has no offset: the
call raises and ends the engine for everybody, at the first seeded request whose prompt is read in pieces.
Here the generators of such requests get back the state that they had before the sample.

vLLM loads this module by its name, an engine argument (serve_app.app), in the worker's process alone.
"""

from typing import Any

import numpy as np
from vllm.v1.worker import cpu_worker
from vllm.v1.worker.cpu_model_runner import CPUModelRunner


class RewindingModelRunner(CPUModelRunner):
    """A request's generator is in the state that its number of kept samples gives."""

    def _sample(self, *args: Any) -> Any:
        before = {index: generator.get_state() for index, generator in self._discarded().items()}
        output = super()._sample(*args)
        for index, state in before.items():
            self.input_batch.generators[index].set_state(state)
        return output

    def _bookkeeping_sync(self, *args: Any) -> Any:
        """Without the generators that vLLM would turn back: they are."""
        discarded = self._discarded()
        for index in discarded:
            del self.input_batch.generators[index]
        try:
            return super()._bookkeeping_sync(*args)
        finally:
            self.input_batch.generators.update(discarded)

    def _discarded(self) -> dict[int, Any]:
        """By place in the batch, the generators of requests whose sample is thrown away."""
        mask = self.discard_request_mask.np[: self.input_batch.num_reqs]
        generators = self.input_batch.generators
        return {int(index): generators[index] for index in np.nonzero(mask)[0] if index in generators}


cpu_worker.CPUModelRunner = RewindingModelRunner
Worker = cpu_worker.CPUWorker

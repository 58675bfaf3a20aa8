"""vLLM's worker on the CPU, with a model runner that can reset the random generator of a seeded request.

A step samples a token for each request, even if the prompt of a request is not completely read. vLLM discards
such a token and resets the request's generator by `set_offset`. A generator on the CPU has no offset. The
call therefore raises and ends the engine for all users, at the first seeded request whose prompt is read in
pieces. Here the generators of such requests get the state back that they had before the sample.

An engine argument (serve_app.app) names this module, and vLLM loads it only in the worker's process.
"""

from typing import Any

import numpy as np

from serve_app.model_server.vllm_worker_private import CPUModelRunner, cpu_worker


class RewindingModelRunner(CPUModelRunner):
    """A model runner in which a discarded sample does not change the state of the request's generator."""

    def _sample(self, *args: Any) -> Any:
        before = {index: generator.get_state() for index, generator in self._discarded().items()}
        output = super()._sample(*args)
        for index, state in before.items():
            self.input_batch.generators[index].set_state(state)
        return output

    def _bookkeeping_sync(self, *args: Any) -> Any:
        """Hides the generators that vLLM would reset, because `_sample` has reset them."""
        discarded = self._discarded()
        for index in discarded:
            del self.input_batch.generators[index]
        try:
            return super()._bookkeeping_sync(*args)
        finally:
            self.input_batch.generators.update(discarded)

    def _discarded(self) -> dict[int, Any]:
        """Returns the generators of requests whose sample is discarded, by their place in the batch."""
        mask = self.discard_request_mask.np[: self.input_batch.num_reqs]
        generators = self.input_batch.generators
        return {int(index): generators[index] for index in np.nonzero(mask)[0] if index in generators}


cpu_worker.CPUModelRunner = RewindingModelRunner
Worker = cpu_worker.CPUWorker

"""Keeps Ray Serve LLM from fetching the weights of a base model, because vLLM finds them by itself."""

from serve_app.model_server.ray_llm_private import CallbackBase


class WeightsInPlace(CallbackBase):
    """A callback for weights that vLLM finds by itself: a directory, or a repository of the model hub.

    Ray downloads only from buckets, which we do not use. To return other names unchanged, it would start a
    process that imports vLLM and takes 0.6 GB.
    """

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = False

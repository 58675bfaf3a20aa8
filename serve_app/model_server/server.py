"""Runs one base model in vLLM, with the adapters of its private models. It extends Ray Serve LLM's server.

generate, generate_stream     ->  Generations  ->  adapter lease  ->  RequestEngine
openai_answer, openai_events  ->  adapter lease  ->  OpenAILayer  ->  RequestEngine
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, final

from ray.serve.llm import LLMConfig, LLMServer

from registry.errors import NO_SUCH_MODEL, ModelNotFound
from registry.meter import Meter
from registry.records import JobRequest, Message
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.usage import UsageParts
from serve_app.deployed_settings import Document, new_or_former, served_settings
from serve_app.model_server.adapter_check import Probe, check_files
from serve_app.model_server.adapters import Adapter, Adapters, leased
from serve_app.model_server.admission import Admission
from serve_app.model_server.call_parser import with_whole_calls
from serve_app.model_server.calls import Generation, GenerationCall, OpenAICall
from serve_app.model_server.client import ModelReplica
from serve_app.model_server.engine_watch import EngineWatch
from serve_app.model_server.generations import Generations
from serve_app.model_server.gpu_gate import AwakeEngine, GpuGate
from serve_app.model_server.metrics import FirstToken, RayReplicaMetrics
from serve_app.model_server.multiplexing import multiplexed
from serve_app.model_server.openai_layer import OpenAILayer
from serve_app.model_server.ray_llm_private import chat_serving, engine_client, text_serving
from serve_app.model_server.request_engine import RequestEngine
from serve_app.model_server.schema_compiler import SchemaCompiler, WorkerProcess
from serve_app.model_server.schema_worker import TokenizerText
from serve_app.model_server.training_lengths import LengthChecks
from serve_app.model_server.vllm_objects_private import num_unfinished, remove_adapter_gauge
from serve_app.model_server.vllm_patches.plain_text import keep_content_text
from serve_app.model_server.vllm_patches.plugins import require_plugins
from serve_app.model_server.weights_place import require_weights
from serve_app.ray_private import user_config_of_this_replica
from serve_app.replica_address import listen_at_the_node
from serve_app.serve_log import keep_open
from training.chat_template import tool_support, use_template
from training.conversation import tokenise_prompt

PROBE = "Hello! What can you tell me about the sea, and who lives in it?"
"""The text of the prompts that an adapter is tried with. The chat template adds tokens before it."""


@final
class ModelServer(LLMServer, ModelReplica):
    """A replica. Other deployments call the public methods below through Ray handles.

    `args` are the settings with which it starts. It applies those of its `user_config` while it runs.

    Raises (all that generate): ContextLengthExceeded, InvalidRequest, ModelNotFound, ModelUnusable,
    RateLimited, RevisionNotFound, Unavailable; TigerError if the engine ended a sample without a reason.
    """

    async def __init__(  # type: ignore[misc]
        self,
        llm_config: LLMConfig,
        args: Document,
        engine_cls: type | None = None,
    ) -> None:
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        listen_at_the_node()
        keep_open()
        self._args = args
        self._configured = settings = served_settings(args, user_config_of_this_replica())
        base = self._base = settings.base_model
        require_weights(base)
        store = ObjectStore(settings.storage)
        self._meter = Meter(UsageParts(store), settings.usage.flush_interval_s)
        self._metrics = RayReplicaMetrics(base.id)
        self._adapters = Adapters(
            Revisions(store),
            engine=lambda: AwakeEngine(lambda: self._llm, self._gate),
            build_request=lambda name, lora_id, path: LoRARequest(name, lora_id, path),
            check=lambda directory: check_files(directory, base.max_rank),
            probe=Probe(
                lambda: self._llm,
                lambda: SamplingParams(temperature=0, max_tokens=1),
                lambda: self._probe_tokens,
            ).try_out,
            metrics=self._metrics,
        )
        # Level 1 moves the weights to the CPU's memory. Without a GPU the engine only pauses.
        sleep_level = 1 if base.serving.accelerator.kind == "gpu" else 0
        self._gate = GpuGate(
            pause=lambda: self._llm.pause_generation(mode="wait", clear_cache=False),
            sleep=lambda: self._llm.sleep(level=sleep_level, mode="wait"),
            wake_up=lambda: self._llm.wake_up(),
        )
        await super().__init__(llm_config, engine_cls=engine_cls)
        self._tokenizer = self._llm.get_tokenizer()
        keep_content_text(self._llm.renderer)
        use_template(self._tokenizer, base.chat_template)
        self._length_checks = LengthChecks(
            self._tokenizer, base.max_context_tokens, settings.limits.max_waiting_length_checks_per_user
        )
        self._probe_tokens = tokenise_prompt(self._tokenizer, [Message(role="user", content=PROBE)])
        num_tokens = self._llm.model_config.get_vocab_size()
        self._schemas = SchemaCompiler(WorkerProcess(TokenizerText.of(self._tokenizer, num_tokens)))
        self._generations = Generations(
            base,
            self._tokenizer,
            self._meter,
            admit=lambda call, num_samples: self._request_engine(call, 1, num_samples),
            leased=self._leased,
            is_loaded=self._adapters.is_loaded,
        )
        chat = chat_serving(self.engine)
        chat.parser_cls = with_whole_calls(chat.parser_cls)
        self._openai = OpenAILayer(
            chat, text_serving(self.engine), self._schemas, tool_support(self._tokenizer)
        )
        scheduler = self._llm.vllm_config.scheduler_config
        self._admission = Admission(
            scheduler.max_num_seqs,
            settings.limits.max_concurrent_generations_per_user,
            settings.limits.max_queued_tokens_per_user,
            scheduler.max_num_batched_tokens,
            base.serving.share_beside,
        )
        self._meter.start()
        self._watch = EngineWatch(self._llm, lambda: self._admission.num_all_generations, self._meter.close)
        self._watch.start()
        self._schemas.start()

    async def reconfigure(self, user_config: Document) -> None:
        """Changes the settings. Generations in progress go on, and the counts of each user stay."""
        settings = new_or_former(served_settings, self._args, user_config, self._configured)
        self._configured, limits = settings, settings.limits
        self._generations.base = settings.base_model
        self._length_checks.max_waiting_per_user = limits.max_waiting_length_checks_per_user
        self._admission.set_limits(
            limits.max_concurrent_generations_per_user,
            limits.max_queued_tokens_per_user,
            settings.base_model.serving.share_beside,
        )
        self._meter.flush_interval_s = settings.usage.flush_interval_s

    async def __del__(self) -> None:
        """Stops the parts of the replica. Serve awaits this when it stops the replica."""
        if hasattr(self, "_watch"):
            self._watch.stop()
        if hasattr(self, "_meter"):
            await self._meter.close()
        if hasattr(self, "_schemas"):
            await self._schemas.stop()
        await super().__del__()

    @property
    def _llm(self) -> Any:
        """vLLM's AsyncLLM."""
        return engine_client(self.engine)

    def _request_engine(
        self, call: GenerationCall | OpenAICall, num_prompts: int, num_samples: int, num_copies: int = 1
    ) -> RequestEngine:
        """Returns the engine for one request. Entering its context admits the request."""
        return RequestEngine(
            self._llm,
            call.user,
            call.model,
            self._admission,
            self._meter,
            num_prompts,
            num_samples,
            num_copies,
        )

    def _engine_of(self, call: OpenAICall) -> RequestEngine:
        num_copies = call.num_choices // call.num_samples
        return self._request_engine(call, call.num_prompts, call.num_samples, num_copies)

    def _init_multiplex_loader(self, model_downloader_cls: Any = None) -> None:
        """Replaces Ray's loader, which does not check downloaded adapters and never frees them."""

        async def load(adapter_id: str) -> Adapter:
            return await self._adapters.load(adapter_id)

        self._load_model = multiplexed(load, self._base.serving.max_adapters)

    async def _start_engine(self) -> None:
        """Starts the engine without Ray's telemetry, which would need a process of 0.25 GB."""
        require_plugins()
        await self.engine.start()
        remove_adapter_gauge(self._llm)

    async def finish_generations(self) -> None:
        """Finishes running generations, before the GPU is lent. Further requests wait from now on."""
        await self._gate.close()

    async def lend_gpu(self) -> None:
        """Frees the engine's memory for the training worker."""
        await self._gate.lend()

    async def take_back_gpu(self) -> None:
        """Wakes the engine up. Nothing happens if the GPU was not lent."""
        await self._gate.take_back()

    async def num_waiting_for_gpu(self) -> int:
        """Returns the number of requests that wait because the GPU is lent. Some may be in the engine."""
        num: int = self._llm.output_processor.get_num_unfinished_requests()
        return self._gate.num_waiting + num

    async def _adapter(self, adapter_id: str | None) -> Adapter | None:
        """Returns the loaded adapter. The caller is inside the gate: a sleeping engine cannot load."""
        if adapter_id is None:
            return None
        if not self._adapters.is_loaded(adapter_id):
            # Serve loads one adapter at a time. The download comes first, so that downloads run in parallel.
            await self._adapters.fetch(adapter_id)
        adapter: Adapter = await self._load_model(adapter_id)
        if adapter.is_freed:  # the model was deleted after the ingress had resolved the reference
            raise ModelNotFound(NO_SUCH_MODEL, "model")
        return adapter

    @asynccontextmanager
    async def _leased(
        self, engine: RequestEngine, call: GenerationCall | OpenAICall
    ) -> AsyncIterator[Any | None]:
        """Yields vLLM's request for the call's adapter, and keeps the adapter until the call has ended."""
        first_token = FirstToken(self._metrics.began)
        async with (
            self._gate.inside() as place,
            leased(await self._adapter(call.adapter_id)) as lora_request,
            aclosing(engine),
        ):

            def note_begin() -> None:
                place.leave()
                first_token()

            engine.on_begun = note_begin
            yield lora_request

    async def preload(self, adapter_id: str) -> None:
        """Loads an adapter before its first request."""
        async with self._gate.inside():
            await self._adapter(adapter_id)

    async def unload(self, uid: str) -> None:
        """Frees every adapter of a deleted model. Running requests finish first."""
        self._adapters.evict_model(uid)

    async def check_health(self) -> None:
        """Checks the engine. It answers at once, even if the engine is busy. Raises: Unavailable."""
        self._watch.check()

    async def num_unfinished(self) -> int:
        """Returns the number of generations that are admitted or still in the engine."""
        return max(num_unfinished(self._llm), self._admission.num_all_generations)

    async def generate(self, call: GenerationCall) -> Generation:
        """Returns all completions of a call."""
        return await self._generations.generate(call)

    async def generate_stream(self, call: GenerationCall) -> AsyncIterator[str]:
        """Yields NDJSON lines: `info` if the adapter has to be loaded, `delta` with text, then `stop`."""
        async with aclosing(self._generations.stream(call)) as lines:
            async for line in lines:
                yield line

    async def openai_answer(self, call: OpenAICall) -> str:
        """Returns a JSON object in OpenAI's form."""
        async with (
            self._engine_of(call) as engine,
            self._leased(engine, call) as lora_request,
        ):
            return await self._openai.answer(call, engine, lora_request)

    async def openai_events(self, call: OpenAICall) -> AsyncIterator[str]:
        """Yields server-sent events in OpenAI's form."""
        async with (
            self._engine_of(call) as engine,
            self._leased(engine, call) as lora_request,
            aclosing(self._openai.events(call, engine, lora_request)) as events,
        ):
            async for event in events:
                yield event

    async def count_training_tokens(
        self, user: str, request: JobRequest, max_tokens: int, is_single: bool
    ) -> int:
        """Returns the number of tokens of all rows of a training, each with its prompt.

        Raises: ContextLengthExceeded, InvalidRequest (there are more than `max_tokens`), RateLimited.
        """
        return await self._length_checks.count(user, request, max_tokens, is_single)

"""Calls vLLM's own OpenAI layer for one request of one user, with the user's model, adapter and cache salt.

    OpenAICall  ->  its schemas compiled  ->  vLLM's request  ->  its serving object, with one model in it
                ->  JSON, or SSE events

vLLM's layer finds adapters by name in a table that all requests share. Here each request gets a shallow copy
of the serving object. Its table has only the adapter that was leased for the request. Therefore names of
different users cannot be confused, and the answer has the user's name for the model.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic import ValidationError

from registry.errors import INTERNAL_ERROR, ContextLengthExceeded, InvalidRequest, TigerError, Unavailable
from serve_app.model_server.answer_fields import answer_for_client, event_for_client
from serve_app.model_server.calls import OpenAICall, cache_salt_of
from serve_app.model_server.grammars import STRUCTURED_OUTPUTS, ConstrainedEngine, schemas_of, without_schema
from serve_app.model_server.schema_compiler import SchemaCompiler
from serve_app.model_server.tool_calls import check_tools, settle, settle_event
from serve_app.model_server.vllm_objects_private import serving_with
from serve_app.shared_tasks import is_being_cancelled
from training.chat_template import ToolSupport

ERROR_EVENT = 'data: {"error":'
"""The beginning of an event that vLLM makes of an exception. Every other event begins with an id."""


MAX_COMPILE_S = 2.0
"""The longest time to compile the schemas of a request. The engine compiles them for each sample."""


class OpenAILayer:
    """vLLM's OpenAI layer. `chat` and `text` are the serving objects that vLLM built with its engine."""

    def __init__(self, chat: Any, text: Any, schemas: SchemaCompiler, tool_support: ToolSupport) -> None:
        self._serving = {"chat": chat, "text": text}
        self._schemas = schemas
        self._tool_support = tool_support

    async def answer(self, call: OpenAICall, engine: Any, lora_request: Any) -> str:
        """Returns a JSON object. Raises: InvalidRequest, ContextLengthExceeded, Unavailable, TigerError."""
        constrained = ConstrainedEngine(engine, call.body)
        answer = await self._create(call, constrained, lora_request)
        if call.body.get("tools"):
            settle(answer, constrained.finish_reasons)
        return answer_for_client(answer, call)

    async def events(self, call: OpenAICall, engine: Any, lora_request: Any) -> AsyncGenerator[str, None]:
        """Yields server-sent events, the last one `[DONE]`.

        Raises the errors of `answer`, also after some events.
        """
        constrained = ConstrainedEngine(engine, call.body)
        async with aclosing(await self._create(call, constrained, lora_request)) as events:
            async for event in events:
                if engine.failure is not None:  # the event has vLLM's message about this error
                    raise _as_ours(engine.failure, call)
                if event.startswith(ERROR_EVENT):
                    raise TigerError(INTERNAL_ERROR)
                yield event_for_client(settle_event(event), call)

    async def _create(self, call: OpenAICall, engine: Any, lora_request: Any) -> Any:
        from vllm.exceptions import GracefulHTTPError, VLLMClientError

        from serve_app.model_server.engine_requests import ChatRequest, TextRequest
        from serve_app.model_server.vllm_openai_private import ErrorResponse

        check_tools(call.body, self._tool_support, call.model)
        await self._compile(call)
        serving = serving_with(self._serving[call.kind], OnlyModel(call.answering, lora_request), engine)
        fields = {
            **without_schema(call.body),
            "model": call.answering,
            "cache_salt": cache_salt_of(call.user),
        }
        try:
            if call.kind == "chat":
                answer = await serving.create_chat_completion(ChatRequest(**fields))
            else:
                answer = await serving.create_completion(TextRequest(**fields))
        except ValidationError as error:
            first = error.errors()[0]
            message = str(first["msg"]).removeprefix("Value error, ")
            param = ".".join(str(part) for part in first["loc"][:1]) or _spoken_of(message, call)
            raise InvalidRequest(message, param) from None
        except (TigerError, GracefulHTTPError, VLLMClientError) as error:
            raise _as_ours(error, call) from None
        except (ValueError, NotImplementedError) as error:
            raise _refused(error, call) from None
        if isinstance(answer, ErrorResponse):
            if is_being_cancelled():  # the client went away, and vLLM reports that as an error of the client
                raise asyncio.CancelledError
            if answer.error.code >= 500:
                raise TigerError(INTERNAL_ERROR)
            raise _refusal(call, answer.error.message, answer.error.param)
        return answer

    async def _compile(self, call: OpenAICall) -> None:
        """Checks that the engine can compile the schemas of the request.

        Raises: InvalidRequest, RateLimited, Unavailable.
        """
        schemas = schemas_of(call.body)
        places = list(schemas)
        if not schemas:
            return
        reply = await self._schemas.check(call.user, list(schemas.values()))
        if reply.error is not None:
            place = places[reply.index or 0] if reply.index is not None or len(places) == 1 else "tools"
            constraint = "constraint" if place.startswith(STRUCTURED_OUTPUTS) else "schema"
            raise InvalidRequest(f"the engine cannot enforce this {constraint}: {reply.error}", place)
        if reply.seconds * call.num_samples > MAX_COMPILE_S:
            raise InvalidRequest("the schema takes too long to compile for so many samples", "n")


class OnlyModel:
    """A table of models for vLLM's layer that has only one model."""

    base_model_paths = ()

    def __init__(self, name: str, lora_request: Any | None) -> None:
        self._name = name
        self.lora_requests = {} if lora_request is None else {name: lora_request}

    def is_base_model(self, name: str) -> bool:
        return name == self._name and not self.lora_requests

    def model_name(self, lora_request: Any | None = None) -> str:
        return self._name


def _as_ours(error: Exception, call: OpenAICall) -> Exception:
    """Returns the error for the client that an error of the engine or of vLLM's layer becomes."""
    from vllm.exceptions import GracefulHTTPError, VLLMClientError

    if isinstance(error, TigerError):
        return _of_generation(error, call)
    if isinstance(error, GracefulHTTPError):
        return Unavailable("the model is overloaded; try again")
    return _refused(error, call) if isinstance(error, VLLMClientError) else error


def _refused(error: Exception, call: OpenAICall) -> TigerError:
    message = str(error.args[0]) if error.args else str(error)  # the whole text repeats the value
    return _refusal(call, message, getattr(error, "parameter", None))


def _of_generation(error: Exception, call: OpenAICall) -> Exception:
    """Blames the schema if the engine ended a sample of a request with a schema for an unknown reason.

    The walks that were tried beforehand are not all possible ones: llguidance gave up in this one.
    """
    place = next(iter(schemas_of(call.body)), None)
    if type(error) is TigerError and place is not None:
        return InvalidRequest("the engine could not complete an answer that follows the schema", place)
    return error


def _refusal(call: OpenAICall, message: str, param: str | None) -> TigerError:
    """Returns the error for a request that vLLM refuses.

    For a prompt that is too long, vLLM's `param` is `input_tokens` or `input_text`.
    """
    if param in ("input_tokens", "input_text"):
        return ContextLengthExceeded(message, "messages" if call.kind == "chat" else "prompt")
    return InvalidRequest(message, param or _spoken_of(message, call))


def _spoken_of(message: str, call: OpenAICall) -> str | None:
    """Returns the field of the request that a message of vLLM mentions. Not every error has a `param`."""
    if message.startswith("Token id "):
        return "prompt"
    return next((word for word in re.findall(r"\w+", message) if word in call.body), None)

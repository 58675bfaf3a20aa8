"""`POST /v1/generate_response`, streamed, as a backend of vLLM's own load generator."""

import json
import time
from typing import Any

import aiohttp
from vllm.benchmarks.lib.endpoint_request_func import (
    ASYNC_REQUEST_FUNCS,
    RequestFuncInput,
    RequestFuncOutput,
)

BACKEND = "tiger-native"


class NativeStream:
    """The backend. It counts the streams for which an adapter was loaded, which the output cannot say."""

    def __init__(self) -> None:
        self.num_loading = 0

    async def __call__(
        self, request_func_input: RequestFuncInput, session: aiohttp.ClientSession, pbar: Any = None
    ) -> RequestFuncOutput:
        asked = request_func_input
        body = {
            "model": asked.model_name,
            "messages": [{"role": "user", "content": asked.prompt}],
            "max_tokens": asked.output_len,
            "stream": True,
            **(asked.extra_body or {}),
        }
        output = RequestFuncOutput(prompt_len=asked.prompt_len)
        output.start_time = last = time.perf_counter()
        async with session.post(asked.api_url, json=body, headers=asked.extra_headers) as answer:
            if answer.status != 200:
                output.error = await answer.text()
                return output
            async for line in answer.content:
                chunk = json.loads(line)
                now = time.perf_counter()
                if chunk["type"] == "delta":
                    if not output.ttft:
                        output.ttft = now - output.start_time
                    else:
                        output.itl.append(now - last)
                    last = now
                elif chunk["type"] == "stop":
                    output.success = bool(output.ttft)
                    output.output_tokens = chunk["usage"]["output_tokens"]
                elif chunk["type"] == "info":
                    self.num_loading += chunk["message"].startswith("Loading model")
                else:
                    output.error = line.decode()
        output.latency = last - output.start_time
        return output


NATIVE_STREAM = NativeStream()
ASYNC_REQUEST_FUNCS[BACKEND] = NATIVE_STREAM

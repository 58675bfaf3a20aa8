"""Checks an adapter on disk and tries it in the engine, before any request uses it.

    check_files      the configuration, names and shapes of the matrices, and that their numbers are finite
    Probe.try_out    one step of the engine over prompts of several lengths; its logits must be usable

Finite weights are not enough: if they are as large as 1e30, they are finite but the logits are not. An
adapter that passes the probe and fails on another prompt ends only that request
(vllm_patches.finite_numbers).
"""

import asyncio
import json
import math
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from registry.errors import ModelUnusable
from registry.revisions import CONFIG_FILE
from serve_app.model_server.request_engine import UNUSABLE, raise_of_ended

WEIGHTS_FILE = "adapter_model.safetensors"
MATRIX = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<letter>[AB])\.weight")
NOT_ADAPTED = frozenset({"lm_head", "embed_tokens"})
"""The first and the last layer. The engine has no LoRA for them (vllm_patches.grouped_lora)."""
MAX_SCALE = 1e4
PROBES = (slice(0, 1), slice(1, 4), slice(4, 12))
"""The parts of the probe text that are tried as prompts. They are short, as the step delays all requests."""
FIRST = -(2**31)
"""The priority of a probe. It is the highest, because the loads of other adapters wait for the probe."""


class GeneratingEngine(Protocol):
    """The call of vLLM's AsyncLLM that generates."""

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]: ...


def check_files(directory: Path, max_rank: int) -> None:
    """Checks the files of an adapter. Raises: ModelUnusable, with the reason as its cause."""
    try:
        rank = _checked_rank(json.loads((directory / CONFIG_FILE).read_text()), max_rank)
        _check_weights(directory / WEIGHTS_FILE, rank)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelUnusable(UNUSABLE, "model") from error


def _checked_rank(config: dict[str, Any], max_rank: int) -> int:
    rank, alpha = int(config["r"]), config["lora_alpha"]
    if not 1 <= rank <= max_rank:
        raise ValueError(f"rank {rank}")
    if not (math.isfinite(alpha) and abs(alpha) / rank <= MAX_SCALE):
        raise ValueError(f"alpha {alpha}")
    for name in ("rank_pattern", "alpha_pattern", "modules_to_save", "use_dora", "lora_bias"):
        if config.get(name):
            raise ValueError(f"{name} is set")
    return rank


def _check_weights(path: Path, rank: int) -> None:
    """Raises: ValueError, if a matrix has another module or rank, has no counterpart, or is not finite."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"no {WEIGHTS_FILE}")
    ranks: dict[str, dict[str, int]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                found = MATRIX.fullmatch(name)
                if found is None or found["module"].rpartition(".")[2] in NOT_ADAPTED:
                    raise ValueError(f"{name} is not taken")
                matrix = file.get_tensor(name)
                if matrix.dim() != 2 or not matrix.isfinite().all():
                    raise ValueError(f"{name} has other than finite numbers")
                its_rank = matrix.shape[0 if found["letter"] == "A" else 1]
                ranks.setdefault(found["module"], {})[found["letter"]] = its_rank
    except SafetensorError as error:
        raise ValueError("no safetensors file") from error
    if any(found != {"A": rank, "B": rank} for found in ranks.values()):
        raise ValueError(f"matrices of other ranks than {rank}, or without their other half")


class Probe:
    """A trial of an adapter in the engine.

    `build_params()` makes vLLM's parameters for one greedy token. `token_ids` returns any tokens of the
    model.
    """

    def __init__(
        self,
        engine: Callable[[], GeneratingEngine],
        build_params: Callable[[], Any],
        token_ids: Callable[[], Sequence[int]],
    ) -> None:
        self._engine = engine
        self._build_params = build_params
        self._token_ids = token_ids

    async def try_out(self, lora_request: Any) -> None:
        """Generates one token for each prompt. Raises: ModelUnusable."""
        salt = secrets.token_hex(16)  # no user has this salt, so no request finds the probe in the cache
        tries = [asyncio.ensure_future(self._generate(part, salt, lora_request)) for part in PROBES]
        try:
            await asyncio.gather(*tries)
        finally:
            for each in tries:
                each.cancel()

    async def _generate(self, part: slice, salt: str, lora_request: Any) -> None:
        prompt = {"prompt_token_ids": list(self._token_ids()[part]), "cache_salt": salt}
        outputs = self._engine().generate(
            prompt,
            self._build_params(),
            f"probe-{secrets.token_hex(16)}",
            lora_request=lora_request,
            priority=FIRST,
        )
        async with aclosing(outputs):
            async for output in outputs:
                raise_of_ended(output)

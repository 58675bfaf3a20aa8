"""Translates constraints of an answer for llguidance.

    OpenAI's request  ->  schemas_of         the schemas in it, with their places, to be compiled beforehand
    vLLM's request    ->  ConstrainedEngine  the schema, or the grammar of tool calls, that the engine gets

vLLM describes a model's tool call (`<tool_call>{"name": ...`) by a structural tag of xgrammar. Its `guidance`
backend does not read structural tags, so the tag becomes a Lark grammar here. vLLM and xgrammar never see the
schema of `response_format` or `structured_outputs`: they get "any object", and the schema replaces it after
them. The texts of `choice` become a regular expression.
"""

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from registry.errors import InvalidRequest
from registry.json_text import compact_json
from serve_app.model_server.schema_worker import REGEX
from serve_app.wire.schema_keywords import enforced_part

ANSWER = "response_format.json_schema.schema"
STRUCTURED_OUTPUTS = "structured_outputs"
ANY_OBJECT = {"type": "object"}
TEXT = "TEXT: /(.|\\n)*/"
NOT_ENFORCED = "the engine cannot enforce schemas on the tool calls of this model"


def schemas_of(body: dict[str, Any]) -> dict[str, str]:
    """Returns the schemas of a request as JSON, by their places in the request."""
    found: dict[str, str] = {}
    if (answer := _answer_form(body)) is not None:
        place, form = answer
        found[place] = form
    if body.get("tool_choice") != "none":
        for index, tool in enumerate(body.get("tools") or ()):
            parameters = tool["function"].get("parameters", ANY_OBJECT)
            found[f"tools.{index}.function.parameters"] = _of_arguments(parameters)
    return found


def without_schema(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the request for vLLM's layer, in which "any object" replaces the schema of the answer."""
    if STRUCTURED_OUTPUTS not in body and _answer_form(body) is None:
        return body
    others = {field: value for field, value in body.items() if field != STRUCTURED_OUTPUTS}
    return {**others, "response_format": {"type": "json_object"}}


def _answer_form(body: dict[str, Any]) -> tuple[str, str] | None:
    """Returns the place and the schema of the answer; None: the request has no schema for it."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is not None:
        return ANSWER, _as_json(schema)
    match body.get(STRUCTURED_OUTPUTS):
        case {"json": schema}:
            return f"{STRUCTURED_OUTPUTS}.json", _as_json(schema)
        case {"regex": pattern}:
            return f"{STRUCTURED_OUTPUTS}.regex", REGEX + pattern
        case {"choice": texts}:
            return f"{STRUCTURED_OUTPUTS}.choice", REGEX + "|".join(map(_exactly, texts))
    return None


def _exactly(text: str) -> str:
    return re.sub(r"[\\.+*?()|\[\]{}^$#&~/-]", r"\\\g<0>", text)


def _as_json(schema: Any) -> str:
    return compact_json(enforced_part(schema), ascii_only=True)


def _of_arguments(parameters: Any) -> str:
    return _as_json({"type": "object", **parameters} if isinstance(parameters, dict) else ANY_OBJECT)


class ConstrainedEngine:
    """The engine for one request. It translates the constraints of vLLM's layer for llguidance."""

    def __init__(self, engine: Any, body: dict[str, Any]) -> None:
        self._engine = engine
        _, self._answer = _answer_form(body) or ("", _as_json(ANY_OBJECT))
        self._has_tools = bool(body.get("tools"))
        self.finish_reasons: dict[int, str] = {}
        """The engine's finish reasons by sample, of a request with tools. vLLM's layer replaces some."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_engine":  # this object may be a copy without attributes yet
            raise AttributeError(name)
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        """Generates with the translated constraint. Raises: InvalidRequest, and the errors of the engine."""
        wanted = sampling_params.structured_outputs
        if wanted is not None:
            sampling_params.structured_outputs = self._constraint_for_llguidance(wanted)
        outputs: AsyncGenerator[Any, None] = self._engine.generate(
            prompt, sampling_params, request_id, **more
        )
        return self._noted(outputs) if self._has_tools else outputs

    async def _noted(self, outputs: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        async for output in outputs:
            for sample in output.outputs:
                if sample.finish_reason is not None:
                    self.finish_reasons[sample.index] = sample.finish_reason
            yield output

    def _constraint_for_llguidance(self, wanted: Any) -> Any:
        if wanted.json_object:
            if self._answer.startswith(REGEX):
                return replace(wanted, json_object=None, regex=self._answer.removeprefix(REGEX))
            return replace(wanted, json_object=None, json=self._answer)
        if wanted.structural_tag is not None:
            tag = json.loads(wanted.structural_tag)
            grammar = _CallGrammar(self._answer).whole(tag["format"])
            return replace(wanted, structural_tag=None, grammar=grammar)
        if wanted.json is not None:  # vLLM has no structural tag for the calls of this model
            schema = wanted.json if isinstance(wanted.json, dict) else json.loads(wanted.json)
            return replace(wanted, json=_as_json(schema))
        raise InvalidRequest("the engine cannot enforce this `response_format`", "response_format")


class _CallGrammar:
    """A Lark grammar that is made from a structural tag. The parts of the tag are called formats."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self._rules: dict[str, str] = {}

    def whole(self, form: dict[str, Any]) -> str:
        start = self._expression(form, is_call=False)
        rules = [f"{name}: {body}" for body, name in self._rules.items()]
        return "\n".join(["%llguidance {}", f"start: {start}", *rules, TEXT, ""])

    def _rule(self, body: str, attribute: str = "") -> str:
        """Returns the name of the rule with this body. Equal bodies share one rule."""
        name = self._rules.setdefault(body, f"r{len(self._rules)}{attribute}")
        return name.removesuffix(attribute)

    def _expression(self, form: dict[str, Any], is_call: bool) -> str:
        parts = [self._expression(part, is_call) for part in form.get("elements", ())]
        match form["type"]:
            case "json_schema" if form.get("style", "json") == "json":
                schema = _of_arguments(form["json_schema"]) if is_call else self._answer
                return self._rule(f"%json {schema}")
            case "const_string":
                return _literal(form["value"])
            case "any_text":
                return "TEXT"
            case "sequence":
                return f"({' '.join(parts)})"
            case "or":
                return f"({' | '.join(parts)})"
            case "optional" | "plus" | "star":
                sign = {"optional": "?", "plus": "+", "star": "*"}[form["type"]]
                return f"({self._expression(form['content'], is_call)}){sign}"
            case "tag":
                return f"{_literal(form['begin'])} {self._rest_of(form, form['begin'])}"
            case "tags_with_separator":
                return self._separated(form)
            case "triggered_tags":
                return self._triggered(form)
        raise InvalidRequest(NOT_ENFORCED, "tools")

    def _rest_of(self, tag: dict[str, Any], begun: str) -> str:
        ends = tag["end"] if isinstance(tag["end"], list) else [tag["end"]]
        begin = _literal(tag["begin"].removeprefix(begun)) if tag["begin"] != begun else ""
        return f"{begin} {self._expression(tag['content'], True)} ({' | '.join(map(_literal, ends))})"

    def _separated(self, form: dict[str, Any]) -> str:
        call = self._rule(" | ".join(self._expression(tag, True) for tag in form["tags"]))
        separator = _literal(form["separator"]) if form["separator"] else ""
        more = "" if form["stop_after_first"] else f" ({separator} {call})*"
        return f"({call}{more})" if form["at_least_one"] else f"({call}{more})?"

    def _triggered(self, form: dict[str, Any]) -> str:
        """Returns an expression for text in which a trigger always begins a call."""
        calls = []
        for trigger in form["triggers"]:
            tags = [tag for tag in form["tags"] if tag["begin"].startswith(trigger)]
            until = self._rule(f"TEXT {_literal(trigger)}", "[lazy]")
            calls.append(f"{until} ({' | '.join(self._rest_of(tag, trigger) for tag in tags)})")
        call = self._rule(" | ".join(calls))
        if not form["at_least_one"]:
            return f"({call} | TEXT)" if form["stop_after_first"] else f"({call}* TEXT)"
        first = self._rule(" | ".join(self._expression(tag, True) for tag in form["tags"]))
        return first if form["stop_after_first"] else f"({first} {call}* TEXT)"


def _literal(text: Any) -> str:
    if not isinstance(text, str):  # the tag names a token by its id
        raise InvalidRequest(NOT_ENFORCED, "tools")
    return json.dumps(text)

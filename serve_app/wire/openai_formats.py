"""The forms that OpenAI's clients ask of an answer: JSON Schemas and other constraints, and tools."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from serve_app.wire.base import Request, Text
from serve_app.wire.json_schemas import (
    MAX_CHOICES,
    MAX_PATTERN,
    MAX_SCHEMA_BYTES,
    MAX_TOOLS_BYTES,
    RefusedSchema,
    check_parameters,
    check_schema,
    check_size,
)
from serve_app.wire.refused_fields import refused

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$", max_length=64)]


def _checked(check: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Returns a validator that calls `check`. Its error names the place inside the value."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except RefusedSchema as error:
            reason = PydanticCustomError("json_schema", "{reason}", {"reason": error.message})
            at = InitErrorDetails(type=reason, loc=error.path, input=None)
            raise ValidationError.from_exception_data("JSON Schema", [at]) from None
        return value

    return validate


JsonSchema = Annotated[dict[str, Any], AfterValidator(_checked(check_schema))]
ParametersSchema = Annotated[dict[str, Any], AfterValidator(_checked(check_parameters))]
SizeOfTools = BeforeValidator(_checked(lambda tools: check_size(tools, MAX_TOOLS_BYTES, "list of tools")))


SizeOfChoices = BeforeValidator(
    _checked(lambda choices: check_size(choices, MAX_SCHEMA_BYTES, "list of choices"))
)
UnicodeText = AfterValidator(_checked(lambda text: check_size(text, MAX_SCHEMA_BYTES, "text")))


class FunctionDefinition(Request):
    name: FunctionName
    description: Text | None = None
    parameters: ParametersSchema | None = Field(None, description="JSON Schema of the arguments")
    strict: bool | None = Field(None, description="no effect: the arguments always follow the schema")


class Tool(Request):
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Request):
    name: FunctionName


class NamedTool(Request):
    type: Literal["function"]
    function: NamedFunction


class TextFormat(Request):
    type: Literal["text"]


class ObjectFormat(Request):
    type: Literal["json_object"]


class SchemaFormat(Request):
    name: FunctionName
    description: Text | None = None
    schema_: JsonSchema = Field(alias="schema", description="JSON Schema of the answer")
    strict: bool | None = Field(None, description="no effect: the answer always follows the schema")


class JsonSchemaFormat(Request):
    type: Literal["json_schema"]
    json_schema: SchemaFormat


ResponseFormat = Annotated[TextFormat | ObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


UNBOUNDED = ("grammar", "structural_tag")


class StructuredOutputs(Request):
    """A constraint of the answer in vLLM's form. A grammar is refused, because its cost has no bound."""

    json_: JsonSchema | None = Field(None, alias="json", description="JSON Schema of the answer")
    json_object: Literal[True] | None = Field(None, description="the answer is any JSON object")
    choice: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1024)]],
            Field(fail_fast=True, min_length=1, max_length=MAX_CHOICES),
            SizeOfChoices,
        ]
        | None
    ) = Field(None, description="the answer is one of these texts")
    regex: (
        Annotated[str, Field(min_length=1, max_length=MAX_PATTERN, pattern=r"^[^\x00]*$"), UnicodeText] | None
    ) = Field(None, description="regular expression that the whole answer matches")

    @model_validator(mode="before")
    @classmethod
    def _can_be_bounded(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for kind in UNBOUNDED:
            if value.get(kind) is not None:
                reason = "its cost has no bound; use `json`, `regex` or `choice`"
                raise refused(kind, f"`{kind}` is not supported, because {reason}")
        return {kind: given for kind, given in value.items() if kind not in UNBOUNDED}

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        kinds = (self.json_, self.json_object, self.choice, self.regex)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give exactly one of `json`, `json_object`, `choice` and `regex`")
        return self

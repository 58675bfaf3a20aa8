"""What an answer is held to, as OpenAI's clients send it: JSON Schemas, the tools that a model may call."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from serve_app.json_schemas import (
    MAX_TOOLS_BYTES,
    RefusedSchema,
    check_parameters,
    check_schema,
    check_size,
)
from serve_app.schemas import Request, Text

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$", max_length=64)]


def _checked(check: Callable[[Any], None]) -> Callable[[Any], Any]:
    """A validator whose error is at the place inside the value that `check` names."""

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
SizeOfTools = BeforeValidator(_checked(lambda tools: check_size(tools, MAX_TOOLS_BYTES)))


class FunctionDefinition(Request):
    name: FunctionName
    description: Text | None = None
    parameters: ParametersSchema | None = Field(None, description="JSON Schema of the arguments")
    strict: bool | None = Field(None, description="the arguments are held to the schema anyway")


class Tool(Request):
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Request):
    name: FunctionName


class NamedTool(Request):
    type: Literal["function"]
    function: NamedFunction


class AnyFormat(Request):
    type: Literal["text", "json_object"]


class SchemaFormat(Request):
    name: FunctionName
    description: Text | None = None
    schema_: JsonSchema = Field(alias="schema", description="JSON Schema of the answer")
    strict: bool | None = Field(None, description="the answer is held to the schema anyway")


class JsonSchemaFormat(Request):
    type: Literal["json_schema"]
    json_schema: SchemaFormat


ResponseFormat = Annotated[AnyFormat | JsonSchemaFormat, Field(discriminator="type")]

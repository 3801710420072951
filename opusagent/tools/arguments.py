"""What the model wants a tool called with: read from its JSON, and checked."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, override

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticSerializationError, to_json
from pydantic_core.core_schema import WithDefaultSchema

from opusagent.call.arguments import parse_arguments
from opusagent.errors import ConfigError, ToolError
from opusagent.tools.tool import Arguments

__all__ = ["REQUIRED", "Parameter", "Parameters", "parse_arguments"]

REQUIRED: Final = inspect.Parameter.empty
"""The default of a parameter that has none."""

# Models give a number for what is digits to us.
_CONFIG: Final = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
_MAX_PROBLEMS: Final = 5
_MAX_PROBLEM_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of a tool.

    Attributes:
        annotation: Its type, as pydantic understands it.
        default: Its value where the model gives none.
        description: What the model is told of it.
    """

    name: str
    annotation: Any
    default: Any = REQUIRED
    description: str = ""


class _Schema(GenerateJsonSchema):
    """As plain as can be: without titles made of names, and without null for what may be left out."""

    @override
    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        if "default" not in schema or schema["default"] is not None:
            return super().default_schema(schema)
        inner = schema["schema"]
        return self.generate_inner(inner["schema"] if inner["type"] == "nullable" else inner)

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Parameters:
    """The arguments that a tool takes.

    Raises:
        ConfigError: If they cannot be described in JSON.

    Attributes:
        schema: They, as JSON schema.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        # Fields under names of our own: an argument may have the name of a method of the model.
        self._fields = {f"p{i}": parameter.name for i, parameter in enumerate(parameters)}
        fields: dict[str, Any] = {
            field: (
                _annotated(parameter),
                ... if parameter.default is REQUIRED else parameter.default,
            )
            for field, parameter in zip(self._fields, parameters, strict=True)
        }
        try:
            self._model: type[BaseModel] = create_model("Arguments", __config__=_CONFIG, **fields)
            self.schema: dict[str, JsonValue] = self._model.model_json_schema(
                by_alias=True, schema_generator=_Schema
            )
        except PydanticUserError as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"its arguments cannot be described: {reason}") from None
        for noise in ("title", "additionalProperties"):
            self.schema.pop(noise, None)
        try:
            to_json(self.schema)
        except PydanticSerializationError:
            raise ConfigError("its arguments have a text that UTF-8 does not have") from None

    def check(self, arguments: Arguments) -> dict[str, Any]:
        """The arguments by name, as the tool's types, with defaults.

        Raises:
            ToolError: Naming each argument that is wrong, and why.
        """
        try:
            checked = self._model.model_validate(arguments)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            words = [
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"[:_MAX_PROBLEM_CHARS]
                for problem in problems[:_MAX_PROBLEMS]
            ]
            raise ToolError("; ".join(words)) from None
        return {name: getattr(checked, field) for field, name in self._fields.items()}


def _annotated(parameter: Parameter) -> Any:
    about: dict[str, Any] = {"alias": parameter.name}
    if parameter.description:
        about["description"] = parameter.description
    return Annotated[parameter.annotation, Field(**about)]

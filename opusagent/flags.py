"""Settings as flags of a command, made from the model, so that none can be forgotten."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, cast

import typer

from opusagent.config import Settings

__all__ = ["with_flags_of", "with_setting_flags"]


def with_setting_flags[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Give a typer command one flag per setting, collected in its `**flags` parameter.

    The command gets only flags that were given, by field name, as text (booleans as `bool`), ready
    for `config.load(flags)`, which is where they are checked, so that a wrong flag and a wrong line
    in a file are refused in the same words.

    ```python
    @app.command()
    @with_setting_flags
    def serve(config: ConfigOption = None, **flags: str | bool) -> None:
        settings = load(flags, file=config)
    ```

    Raises:
        TypeError: If the command has no `**flags` parameter.
    """
    return with_flags_of(Settings.model_fields)(command)


def with_flags_of[**P, R](
    settings: Collection[str],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As `with_setting_flags`, for some settings only: those that the command depends on."""
    return functools.partial(_with_flags, settings)


def _with_flags[**P, R](settings: Collection[str], command: Callable[P, R]) -> Callable[P, R]:
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(own) == len(signature.parameters):
        raise TypeError(f"{command.__name__} takes no **flags")

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> R:
        kept = {
            name: value
            for name, value in given.items()
            if value is not None or name not in Settings.model_fields
        }
        return cast("Callable[..., R]", command)(*args, **kept)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    parameters += _parameters(settings)
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _parameters(settings: Collection[str]) -> list[inspect.Parameter]:
    made = []
    for name, field in Settings.model_fields.items():
        if name not in settings:
            continue
        flag = f"--{name.replace('_', '-')}"
        is_switch = field.annotation is bool
        option = typer.Option(
            f"{flag}/--no-{flag[2:]}" if is_switch else flag,
            help=f"{_sentence(field.description)} {_default(field.default)}",
            show_default=False,
            metavar=None if is_switch else "VALUE",
            rich_help_panel="Settings",
        )
        kind = bool | None if is_switch else str | None
        made.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind, option],
            )
        )
    return made


def _sentence(description: str | None) -> str:
    text = description or ""
    return f"{text[:1].upper()}{text[1:]}."


def _default(value: object) -> str:
    if value is None or value in ({}, ()):
        return ""
    return f"Default: {str(value).lower() if isinstance(value, bool) else value}"

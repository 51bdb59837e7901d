"""pydantic's faults → Refusals with file, line, column and a guess at what was meant.

Unknown keys are faults whatever the model says, unless it says `extra="allow"`: a typing error must not pass silently.
Messages never carry the value that was given: it may be a secret, and refusals travel to logs and to the hub.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from livecfg.document import Document, Loc, Position
from livecfg.errors import RefusedError
from livecfg.refusal import MOST_FAULTS, Code, Refusal, first_of

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
Locate = Callable[[Loc, bool], tuple[str, Position]]
"""(loc, at the key?) → file and position."""


def validate(model: type[M], document: Document, code: Code = Code.INVALID_VALUE) -> M:
    """Validate a whole document against `model`.

    Raises:
        RefusedError: the first hundred faults at once; `code` replaces the general "invalid value".

    """

    def locate(loc: Loc, at_key: bool) -> tuple[str, Position]:  # noqa: FBT001 - the shape of Locate
        return document.path, document.key_position(loc) if at_key else document.position(loc)

    return validate_value(model, document.value, locate, code)


def validate_value(model: type[M], value: Any, locate: Locate, code: Code = Code.INVALID_VALUE) -> M:
    """Validate plain data against `model`; `locate` says where each part of it stands.

    Raises:
        RefusedError: the first hundred faults at once.

    """
    try:
        return model.model_validate(value, extra="forbid")
    except ValidationError as error:
        faults = [e for e in error.errors(include_url=False) if not _is_allowed_extra(model, e)]
    if not faults:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            faults = error.errors(include_url=False)
    raise RefusedError(*first_of([_refusal(model, value, fault, locate, code) for fault in faults[: MOST_FAULTS + 1]]))


def _refusal(model: type[BaseModel], value: Any, fault: ErrorDetails, locate: Locate, code: Code) -> Refusal:
    kind, loc = fault["type"], _data_loc(value, fault["loc"])
    if kind == "extra_forbidden":
        name = str(loc[-1])
        near = difflib.get_close_matches(name, _field_names(_model_at(model, loc[:-1])), n=1, cutoff=0.6)
        advice = f"did you mean '{near[0]}'?" if near else "remove it, or add it to the model first"
        path, at = locate(loc, True)  # noqa: FBT003 - at the key
        message = f"{_dotted(loc)} is not a known key"
        return Refusal(Code.UNKNOWN_KEY, message, path=path, line=at.line, column=at.column, advice=advice)
    path, at = locate(loc, False)  # noqa: FBT003 - at the value
    if kind == "missing":
        message = f"{_dotted(loc)} is missing and has no default"
        advice = "add it to one of the layers"
        return Refusal(Code.MISSING_VALUE, message, path=path, line=at.line, column=at.column, advice=advice)
    if isinstance(fault["input"], SecretStr):
        message, advice = _about_secret(_dotted(loc), kind)
        return Refusal(Code.SECRET, message, path=path, line=at.line, column=at.column, advice=advice)
    wrong_type = kind.endswith(("_type", "_parsing")) or kind in {"int_from_float", "literal_error", "enum"}
    message = _without_value(fault)
    if wrong_type:
        message += f", got {_kind_of(fault['input'])}"
    chosen = code if code is not Code.INVALID_VALUE or not wrong_type else Code.WRONG_TYPE
    return Refusal(chosen, f"{_dotted(loc)}: {message}" if loc else message, path=path, line=at.line, column=at.column)


def _without_value(fault: ErrorDetails) -> str:
    """Give pydantic's message; the one kind of it that quotes the value is said without."""
    if fault["type"] == "union_tag_invalid":
        context = fault["ctx"]
        return f"expected one of {context['expected_tags']} at {context['discriminator']}"
    return fault["msg"].replace("Input should be", "expected").partition(", unable to parse")[0]


def _about_secret(dotted: str, kind: str) -> tuple[str, str]:
    """Message and advice for a secret that the model refuses; what pydantic says may tell something of its value."""
    if kind.endswith("_type"):
        return (
            f"{dotted}: a secret may stand only in a field of type SecretStr",
            "change the field's type, or write the value itself",
        )
    return f"{dotted}: the secret does not fit the model ({kind})", "look at the secret where it is kept"


def _data_loc(value: Any, loc: tuple[int | str, ...]) -> Loc:
    """Keep the parts of pydantic's loc that are keys of the data (it adds names of union members and validators)."""
    result: list[int | str] = []
    for index, part in enumerate(loc):
        if isinstance(value, dict) and (part in value or index == len(loc) - 1):
            result.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            result.append(part)
            value = value[part]
    return tuple(result)


def _dotted(loc: Loc) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the document"


def _kind_of(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a string", int: "an integer", float: "a float", bool: "a boolean"}
    return "nothing (null)" if value is None else names.get(type(value), type(value).__name__)


def _is_allowed_extra(model: type[BaseModel], fault: ErrorDetails) -> bool:
    if fault["type"] != "extra_forbidden":
        return False
    owner = _model_at(model, tuple(fault["loc"][:-1]))
    return owner is not None and owner.model_config.get("extra") == "allow"


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """Find the model that describes the mapping at `loc`, as far as annotations tell."""
    found: list[Any] = [model]
    for part in loc:
        found = [inner for annotation in found for inner in _step(annotation, part)]
    return next((a for annotation in found for a in _members(annotation) if _is_model(a)), None)


def _step(annotation: Any, part: str | int) -> list[Any]:
    """Give the annotations of what `part` names inside a value of `annotation`."""
    result: list[Any] = []
    for member in _members(annotation):
        if _is_model(member):
            fields = {alias: f for n, f in member.model_fields.items() for alias in (n, f.alias)}
            if part in fields:
                result.append(fields[part].annotation)
            elif part == member.__name__:  # pydantic names the member of a union in its loc
                result.append(member)
        elif isinstance(part, int) or get_origin(member) is dict:
            result += get_args(member)[-1:] if get_origin(member) is dict else get_args(member)
    return result


def _members(annotation: Any) -> list[Any]:
    """Give the members of a union (`A | None` has two), or the annotation itself."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return [m for arg in get_args(annotation) for m in _members(arg)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field_names(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [f.alias or n for n, f in model.model_fields.items()]

"""Protobuf messages as the JSON that Triton's clients expect: the names of the proto file, and numbers as numbers."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    """Returns a message as JSON values, with the defaults of fields that are not set."""
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = field.message_type.fields_by_name["value"]
            values[field.name] = {str(key): _plain(kind, item) for key, item in sorted(value.items())}
        elif field.is_repeated:
            values[field.name] = [_plain(field, item) for item in value]
        elif not field.has_presence or message.HasField(field.name):
            values[field.name] = _plain(field, value)
    return values


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value

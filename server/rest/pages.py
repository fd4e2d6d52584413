"""The HTML pages of the HTTP API. They load nothing from elsewhere, and hold no script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote

from ganserve.v1 import generator_pb2 as pb

CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; frame-ancestors 'none'"
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1{font-size:1.6rem}h2{font-size:1.1rem;margin-bottom:.2rem}code{background:#f1f1f1;padding:.1rem .3rem}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}"
    "section{border-top:1px solid #ddd;padding:.3rem 0}img{max-width:100%;image-rendering:pixelated}"
)
_FIRST_SEED: Final = 7


def index_page(models: Iterable[pb.Model]) -> bytes:
    """Returns the first page, with links to the pictures of each model."""
    rows = "".join(_model(model) for model in models if model.is_default)
    return _page(
        "ganserve",
        '<p><a href="/docs">All operations</a> &middot; <a href="/openapi.json">OpenAPI document</a> &middot;'
        f' <a href="/v1/models">models as JSON</a></p>{rows}',
    )


def _model(model: pb.Model) -> str:
    at = f"/v1/models/{quote(model.name, safe='')}"
    facts = f"version {model.version}, {model.width}x{model.height}, {html.escape(model.kind or 'imported')}"
    if model.task == pb.TASK_TRANSLATE:
        made = (
            f"<p><code>curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' -o out.png"
            f" http://HOST:PORT{html.escape(at)}/translate</code></p>"
        )
    else:
        grid = f"{at}/grid.png?n=16&amp;seed={_FIRST_SEED}"
        made = (
            f'<p><a href="{at}/image.png?seed={_FIRST_SEED}">image</a> &middot;'
            f' <a href="{at}/grid.png?n=64&amp;seed={_FIRST_SEED}">grid</a></p>'
            f'<p><img src="{grid}" alt="16 images of {html.escape(model.name)}"></p>'
        )
    return f'<section><h2><a href="{at}">{html.escape(model.name)}</a></h2>{facts}{made}</section>'


def docs_page(document: dict[str, Any]) -> bytes:
    """Returns a page with all operations of an OpenAPI document."""
    sections = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    statuses = ", ".join(
        f"{status} {html.escape(response['description'])}"
        for status, response in document["components"]["responses"].items()
    )
    return _page(
        "Operations of ganserve",
        f'<p>{html.escape(document["info"]["description"])}</p><p>Errors are JSON, <code>{{"error": "..."}}</code>:'
        f' {statuses}.</p><p>The same as an <a href="/openapi.json">OpenAPI document</a>.</p>{"".join(sections)}',
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    shown = html.escape(path)
    links_to = method == "get" and "{" not in path
    at = f'<a href="{shown}"><code>{shown}</code></a>' if links_to else f"<code>{shown}</code>"
    parts = [f"<section><h2>{method.upper()} {at}</h2>{html.escape(operation['summary'])}"]
    if parameters := operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{html.escape(parameter['name'])}</code></td><td>{_values(parameter['schema'])}</td>"
            f"<td>{html.escape(parameter['description'])}</td></tr>"
            for parameter in parameters
        )
        parts.append(f"<table>{rows}</table>")
    for title, content in (
        ("takes", operation.get("requestBody", {}).get("content", {})),
        ("gives", operation["responses"]["200"].get("content", {})),
    ):
        if content:
            parts.append(f"<p>{title} {_listed(list(content))}</p>")
    return "".join([*parts, "</section>"])


def _values(schema: dict[str, Any]) -> str:
    texts = [schema["type"]]
    if "minimum" in schema:
        texts.append(f"{schema['minimum']} to {schema['maximum']}")
    if "default" in schema:
        texts.append(f"default {str(schema['default']).lower()}")
    return html.escape(", ".join(texts))


def _listed(kinds: Sequence[str]) -> str:
    return " or ".join(f"<code>{html.escape(kind)}</code>" for kind in kinds)


def _page(title: str, body: str) -> bytes:
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{title}</h1>{body}</body></html>'.encode()

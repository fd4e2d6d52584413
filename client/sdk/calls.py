"""What to ask one model for, and when, to get all images: in requests of a fitting size, all to the same version.

Decides and sends nothing itself: see `steps.py`. Knows no files on disk.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from client.errors import DeadlineExceeded, InvalidRequest, ServerBusy
from client.sdk.catalog import Catalog
from client.sdk.chunking import Chunk, Pace, chunks_of, max_chunk_rows, max_input_bytes
from client.sdk.input_images import InputRow, row_bytes
from client.sdk.latents import MAX_ROWS, Rows, SeededRows, checked_anchor, checked_rows, split, whole_number
from client.sdk.messages import AnyFormat, Arrays, Reader, Request, Response, generate_request, translate_request
from client.sdk.model_info import ModelInfo
from client.sdk.steps import Emit, Pause, Send, Steps
from client.sdk.steps import Method as RpcMethod
from client.sdk.transport import Connection
from client.sdk.walks import Method, walk
from ganserve.v1 import generator_pb2

BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)  # about 30 s in all; more would look like a hang

_LATENT_VALUE_BYTES: Final = 4
_ROW_OF_REQUEST: Final = re.compile(r"\bencoded\.data\[(\d{1,9})\]")  # how a server names one file of a request

_Item = TypeVar("_Item")
_Chunk = TypeVar("_Chunk")


def generated(
    catalog: Catalog, model: str, rows: Rows, version: int | None, reader: Reader[_Chunk], ahead: int
) -> Steps[_Chunk, None]:
    """Generates all rows; emits what `reader` makes of each answer, in order.

    Args:
        catalog: of the server.
        model: its name.
        rows: checked ones.
        version: None: the newest that is served, and the same for all requests.
        reader: of the answers.
        ahead: how many requests may be on their way; 1: each is sent when its answer is asked for.

    Raises:
        GanClientError: there is no such generator, or no answer.
    """
    served = yield from catalog.find(model, version, "generate")
    chunks = _chunks_of_rows(served, rows, reader.format)
    waiting: deque[tuple[int, generator_pb2.GenerateRequest, Any]] = deque()
    is_first = True

    def send_more() -> Steps[_Chunk, None]:
        room = (1 if version is None else ahead) - len(waiting)  # the first answer tells which version it is
        for chunk in itertools.islice(chunks, room):
            request = generate_request(model, version, chunk, reader.format)
            waiting.append((len(chunk), request, (yield Send("Generate", request))))

    yield from send_more()
    while waiting:
        count, request, handle = waiting.popleft()
        # Who has images already, of many, does not want to lose them because the server is busy for a moment.
        pauses_s = () if is_first else BUSY_PAUSES_S
        response, _ = yield from _patiently(catalog, "Generate", request, pauses_s, handle)
        is_first = False
        version = response.version  # a newer one may appear meanwhile; images of two would not belong together
        if ahead > 1:  # the server works while the caller does
            yield from send_more()
        yield Emit(reader(count, response))
        yield from send_more()


def translated(
    catalog: Catalog,
    model: str,
    rows: Iterable[InputRow],
    version: int | None,
    reader: Reader[_Chunk],
    *,
    resize: bool,
    timeout_s: float,
) -> Steps[_Chunk, None]:
    """Translates all rows; emits what `reader` makes of each answer, in order, one request at a time.

    Raises:
        GanClientError: there is no such translator, or no answer.
    """
    served = yield from catalog.find(model, version, "translate")
    translation = Translation(catalog, served, version, resize=resize, image_format=reader.format, timeout_s=timeout_s)
    first_row = 0
    for chunk in translation.chunks_of(rows, row_bytes):
        yield from translation.send(chunk, first_row, reader)
        first_row += len(chunk)


class Translation:
    """One model of one server that turns images into images; outlasts a busy and a slow server.

    Args:
        catalog: of the server.
        served: the model.
        version: None: the newest that is served, and the same for all requests.
        resize: whether images of another size than the model's are fitted to it.
        image_format: of the answers.
        timeout_s: the deadline of a request.
    """

    def __init__(
        self,
        catalog: Catalog,
        served: ModelInfo,
        version: int | None,
        *,
        resize: bool,
        image_format: AnyFormat,
        timeout_s: float,
    ) -> None:
        self.version = version
        self._catalog = catalog
        self._served = served
        self._resize = bool(resize)
        self._format = image_format
        self._pace = Pace(max_chunk_rows(served, image_format), timeout_s)

    def chunks_of(self, items: Iterable[_Item], item_bytes: Callable[[_Item], int]) -> Iterator[list[_Item]]:
        """Cuts `items`, one a row, into what the next request should hold; asks for no more than one chunk of them."""
        return chunks_of(items, item_bytes, lambda: self._pace.rows, max_input_bytes(self._served))

    def send(
        self, rows: Sequence[InputRow], first_row: int, read: Callable[[int, Response], _Chunk]
    ) -> Steps[_Chunk, None]:
        """Sends rows in one request, or in smaller ones if that misses its deadline; emits read(rows, answer).

        Args:
            rows: at least one.
            first_row: the place of the first row in all that the caller has; errors name rows so.
            read: what to make of an answer.

        Raises:
            InvalidRequest: the first row without an answer, or one sent with it, is refused.
            GanClientError: there is no answer.
        """
        unsent = [rows]  # the next one last
        while unsent:
            part = unsent.pop()
            try:
                response = yield from self._send(part)
            except DeadlineExceeded:
                self._pace.missed(len(part))
                if len(part) == 1:
                    raise
                middle = len(part) // 2
                unsent += [part[middle:], part[:middle]]
                continue
            except InvalidRequest as error:
                self._pace.refused()
                raise InvalidRequest(_with_rows_named_from(first_row, str(error))) from error
            yield Emit(read(len(part), response))
            first_row += len(part)

    def _send(self, rows: Sequence[InputRow]) -> Steps[Any, generator_pb2.TranslateResponse]:
        """Sends one request, again after a pause while the server is busy."""
        request = translate_request(self._served.name, self.version, rows, self._resize, self._format)
        handle = yield Send("Translate", request)
        response, took_s = yield from _patiently(self._catalog, "Translate", request, BUSY_PAUSES_S, handle)
        self._pace.answered(len(rows), took_s)
        self.version = response.version  # a newer one may appear meanwhile; images of two would not belong together
        answer: generator_pb2.TranslateResponse = response
        return answer


class Translator:
    """A Translation in the caller's thread.

    Args:
        connection: to the server.
        model: name of a served model.
        version: None: the newest that is served, and the same for all requests.
        resize: whether images of another size than the model's are fitted to it.
        image_format: of the answers.
        sleep: waits so many seconds.

    Raises:
        GanClientError: there is no such translator.
    """

    def __init__(
        self,
        connection: Connection,
        model: str,
        version: int | None,
        *,
        resize: bool,
        image_format: AnyFormat,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.served = connection.call(connection.catalog.find(model, version, "translate"))
        self._connection = connection
        self._sleep = sleep
        self._translation = Translation(
            connection.catalog,
            self.served,
            version,
            resize=resize,
            image_format=image_format,
            timeout_s=connection.endpoint.timeout_s,
        )
        self.chunks_of = self._translation.chunks_of

    @property
    def version(self) -> int | None:
        """The version that answers; before the first answer the one that was asked for."""
        return self._translation.version

    def send(self, rows: Sequence[InputRow], first_row: int = 0) -> Iterator[tuple[int, Response]]:
        """Like `Translation.send`; yields (rows, answer)."""
        return self._connection.run(
            self._translation.send(rows, first_row, lambda count, response: (count, response)), sleep=self._sleep
        )


def _patiently(
    catalog: Catalog, method: RpcMethod, request: Request, pauses_s: Sequence[float], handle: Any
) -> Steps[Any, tuple[Any, float]]:
    """Waits for the answer to a request that was sent, and sends it again after pauses while the server is busy.

    Returns:
        The answer, and how many seconds the last wait for it took.
    """
    for pause_s in (*pauses_s, None):
        started_s = time.monotonic()
        try:
            response = yield from catalog.answer(handle, request)
        except ServerBusy:
            if pause_s is None:
                raise
        else:
            break
        yield Pause(pause_s * random.uniform(0.75, 1.25))  # clients refused together come back apart
        handle = yield Send(method, request)
    return response, time.monotonic() - started_s


def _with_rows_named_from(first_row: int, text: str) -> str:
    """A server's text about one request, with the caller's names of its rows."""
    return _ROW_OF_REQUEST.sub(lambda match: f"images[{first_row + int(match[1])}]", text)


def _chunks_of_rows(served: ModelInfo, rows: Rows, image_format: AnyFormat) -> Iterator[Rows]:
    max_rows = max_chunk_rows(served, image_format)
    if isinstance(rows, SeededRows):
        if len(rows) <= max_rows and not rows.first_row:
            return iter((rows,))
        if served.latent_distribution != "normal":
            raise InvalidRequest(
                f"count: at most {max_rows} for {served.name!r}, from row 0: this client cannot draw"
                f" {served.latent_distribution!r} latents, which more rows would take; update it, or give latents"
            )
    max_sent_rows = max(1, max_input_bytes(served) // (_LATENT_VALUE_BYTES * served.latent_dim))
    return split(rows, min(max_rows, max_sent_rows), served.latent_dim)


Anchor: TypeAlias = int | ArrayLike  # a seed, whose first latent is meant, or a latent


def interpolated(
    catalog: Catalog,
    model: str,
    start: Anchor,
    end: Anchor,
    *,
    steps: int,
    method: Method,
    loop: bool,
    version: int | None,
    ahead: int,
) -> Steps[Chunk, None]:
    """Generates the images of `steps` points from `start` to `end`, and of the way back with `loop`.

    Raises:
        InvalidRequest: an argument is out of range.
        GanClientError: there is no such generator, or no answer.
    """
    points = whole_number("steps", steps, 2, MAX_ROWS // 2)
    if method not in ("spherical", "linear"):
        raise InvalidRequest(f"method: must be 'spherical' or 'linear', not {method!r:.60}")
    served = yield from catalog.find(model, version, "generate")
    anchors = [checked_anchor(name, at, served.latent_dim) for name, at in (("start", start), ("end", end))]
    if served.latent_distribution not in ("normal", "") and not (np.ndim(start) and np.ndim(end)):
        raise InvalidRequest(
            f"start and end: this client cannot draw the {served.latent_distribution!r:.40} latents of {model!r};"
            " update it, or give latents"
        )
    latents = walk(np.stack(anchors), points, method, loop=loop)
    yield from generated(catalog, model, checked_rows(latents, None, None), version, Arrays("pixels"), ahead)

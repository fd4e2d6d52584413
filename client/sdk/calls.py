"""Plans the requests of a call: their sizes and order, and one model version for all of them.

Sends nothing itself; see `steps.py`.
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

from client.errors import DeadlineExceeded, GanClientError, InvalidRequest, ServerBusy
from client.sdk.catalog import Catalog
from client.sdk.chunking import Chunk, Pace, chunks_of, max_chunk_rows, max_input_bytes
from client.sdk.input_images import InputRow, row_bytes
from client.sdk.latents import MAX_ROWS, Rows, SeededRows, checked_anchor, checked_rows, split, whole_number
from client.sdk.messages import (
    AnyFormat,
    Arrays,
    Reader,
    Request,
    Response,
    check_response,
    generate_request,
    translate_request,
)
from client.sdk.model_info import ModelInfo
from client.sdk.steps import Emit, Pause, Send, Steps, Wait
from client.sdk.steps import Method as RpcMethod
from client.sdk.transport import BlockingConnection
from client.sdk.walks import Method, walk
from ganserve.latents import DISTRIBUTIONS
from ganserve.v1 import generator_pb2

BUSY_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)  # about 30 s in total; more would look like a hang

Anchor: TypeAlias = int | ArrayLike  # a seed, which stands for its first latent, or a latent

_LATENT_VALUE_BYTES: Final = 4
_ROW_OF_REQUEST: Final = re.compile(r"\bencoded\.data\[(\d{1,9})\]")  # how a server names one file of a request

_Item = TypeVar("_Item")
_Chunk = TypeVar("_Chunk")


def generated(
    catalog: Catalog, model: str, rows: Rows, version: int | str | None, reader: Reader[_Chunk], ahead: int
) -> Steps[_Chunk, None]:
    """Generates all rows; emits the result of `reader` for each response, in order.

    Args:
        catalog: The models of the server.
        model: The name of the model.
        rows: Checked rows.
        version: A number or a label. None: the default version. The same for all requests.
        reader: Reads each response.
        ahead: How many requests may be in flight; with 1, each is sent when its response is needed.

    Raises:
        GanClientError: The generator is unknown, or the server does not answer.
    """
    served = yield from catalog.find(model, version, "generate")
    chunks = _chunks_of_rows(served, rows, reader.format)
    waiting: deque[tuple[int, generator_pb2.GenerateRequest, Any]] = deque()
    is_first = True

    def send_more() -> Steps[_Chunk, None]:
        room = (1 if version is None else ahead) - len(waiting)  # the first response sets the version
        for chunk in itertools.islice(chunks, room):
            request = generate_request(model, version, chunk, reader.format)
            waiting.append((len(chunk), request, (yield Send("Generate", request))))

    yield from send_more()
    while waiting:
        count, request, handle = waiting.popleft()
        pauses_s = () if is_first else BUSY_PAUSES_S  # do not lose the images so far to a brief overload
        response, _ = yield from _retry_busy(catalog, "Generate", request, pauses_s, handle)
        is_first = False
        version = response.version  # pinned: images of a newer version would not match these
        if ahead > 1:  # the server computes while the caller uses these images
            yield from send_more()
        yield Emit(reader(count, response))
        yield from send_more()


def interpolated(
    catalog: Catalog,
    model: str,
    ends: tuple[Anchor, Anchor],
    steps: int,
    method: Method,
    version: int | str | None,
    ahead: int,
    *,
    loop: bool,
) -> Steps[Chunk, None]:
    """Generates the images of `steps` points between the two `ends`, and of the way back with `loop`.

    Raises:
        InvalidRequest: An argument is out of range.
        GanClientError: The generator is unknown, or the server does not answer.
    """
    points = whole_number("steps", steps, 2, MAX_ROWS // 2)
    if method not in ("spherical", "linear"):
        raise InvalidRequest(f"method: must be 'spherical' or 'linear', not {method!r:.60}")
    served = yield from catalog.find(model, version, "generate")
    if served.prior not in DISTRIBUTIONS and not all(map(np.ndim, ends)):
        raise InvalidRequest(
            f"start and end: this client cannot draw the {served.prior!r:.40} latents of {model!r};"
            " update it, or give latents"
        )
    anchors = [
        checked_anchor(name, end, served.latent_dim, served.prior)
        for name, end in zip(("start", "end"), ends, strict=True)
    ]
    latents = walk(np.stack(anchors), points, method, loop=loop)
    yield from generated(catalog, model, checked_rows(latents, None, None), version, Arrays("pixels"), ahead)


def translated(
    catalog: Catalog,
    model: str,
    rows: Iterable[InputRow],
    version: int | str | None,
    reader: Reader[_Chunk],
    *,
    resize: bool,
    timeout_s: float,
) -> Steps[_Chunk, None]:
    """Translates all rows, one request at a time; emits the result of `reader` for each response, in order.

    Raises:
        GanClientError: The translator is unknown, or the server does not answer.
    """
    served = yield from catalog.find(model, version, "translate")
    translation = Translation(catalog, served, version, resize=resize, image_format=reader.format, timeout_s=timeout_s)
    first_row = 0
    for chunk in translation.chunks_of(rows, row_bytes):
        yield from translation.send(chunk, first_row, reader)
        first_row += len(chunk)


class Translation:
    """The requests to one image-to-image model; adapts to a busy or slow server.

    Args:
        catalog: The models of the server.
        served: The model.
        version: A number or a label. None: the default version. The same for all requests.
        resize: Whether to resize and crop images to the model's size.
        image_format: The format of the responses.
        timeout_s: The deadline of a request, in seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        served: ModelInfo,
        version: int | str | None,
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
        """Splits `items`, one per row, into the chunks of single requests; consumes one chunk at a time."""
        return chunks_of(items, item_bytes, lambda: self._pace.rows, max_input_bytes(self._served))

    def send(
        self, rows: Sequence[InputRow], first_row: int, read: Callable[[int, Response], _Chunk]
    ) -> Steps[_Chunk, None]:
        """Sends rows in one request, or in smaller ones if that misses its deadline; emits read(rows, response).

        Args:
            rows: At least one.
            first_row: The position of the first row among all rows of the caller, for error messages.
            read: Reads a response.

        Raises:
            InvalidRequest: The server refuses the first unanswered row, or one sent together with it.
            GanClientError: The server does not answer.
        """
        unsent = [rows]  # a stack: the next part is the last one
        while unsent:
            part = unsent.pop()
            request = translate_request(self._served.name, self.version, part, self._resize, self._format)
            try:
                handle = yield Send("Translate", request)
                response, took_s = yield from _retry_busy(self._catalog, "Translate", request, BUSY_PAUSES_S, handle)
            except DeadlineExceeded:
                self._pace.missed(len(part))
                if len(part) == 1:
                    raise
                middle = len(part) // 2
                unsent += [part[middle:], part[:middle]]
                continue
            except InvalidRequest as error:
                self._pace.refused()
                raise InvalidRequest(_with_caller_rows(first_row, str(error))) from error
            self._pace.answered(len(part), took_s)
            self.version = response.version  # pinned: images of a newer version would not match these
            yield Emit(read(len(part), response))
            first_row += len(part)


class Translator:
    """A `Translation` on a blocking connection.

    Args:
        connection: To the server, or to local models.
        model: The name of a served model.
        version: A number or a label. None: the default version. The same for all requests.
        resize: Whether to resize and crop images to the model's size.
        image_format: The format of the responses.
        sleep: Sleeps for a number of seconds.

    Raises:
        GanClientError: The translator is unknown, or the server does not answer.
    """

    def __init__(
        self,
        connection: BlockingConnection,
        model: str,
        version: int | str | None,
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
            timeout_s=connection.timeout_s,
        )
        self.chunks_of = self._translation.chunks_of

    @property
    def version(self) -> int | None:
        """The version that answers; before the first response, the requested one if it was a number."""
        version = self._translation.version
        return None if isinstance(version, str) else version

    def send(self, rows: Sequence[InputRow], first_row: int = 0) -> Iterator[tuple[int, Response]]:
        """Like `Translation.send`; yields (rows, response)."""
        return self._connection.run(
            self._translation.send(rows, first_row, lambda count, response: (count, response)), sleep=self._sleep
        )


def _retry_busy(
    catalog: Catalog, method: RpcMethod, request: Request, pauses_s: Sequence[float], handle: Any
) -> Steps[Any, tuple[Any, float]]:
    """Waits for the response to a request; resends it after pauses while the server is busy.

    Returns:
        The response, and how many seconds the last wait for it took.

    Raises:
        GanClientError: The server does not answer, or another model answers.
    """
    for pause_s in (*pauses_s, None):
        started_s = time.monotonic()
        try:
            response = yield Wait(handle)
        except GanClientError as error:
            catalog.forget()
            if pause_s is None or not isinstance(error, ServerBusy):
                raise
        else:
            break
        yield Pause(pause_s * random.uniform(0.75, 1.25))  # jitter: clients must not retry together
        handle = yield Send(method, request)
    check_response(request, response)
    return response, time.monotonic() - started_s


def _with_caller_rows(first_row: int, text: str) -> str:
    """Replaces row numbers of one request in a server's message by the caller's row numbers."""
    return _ROW_OF_REQUEST.sub(lambda match: f"images[{first_row + int(match[1])}]", text)


def _chunks_of_rows(served: ModelInfo, rows: Rows, image_format: AnyFormat) -> Iterator[Rows]:
    max_rows = max_chunk_rows(served, image_format)
    if isinstance(rows, SeededRows):
        if len(rows) <= max_rows and not rows.first_row:
            return iter((rows,))
        if served.prior not in DISTRIBUTIONS:
            raise InvalidRequest(
                f"count: at most {max_rows} for {served.name!r}, from row 0: the server draws no more, and this client"
                f" cannot draw {served.prior!r} latents; update it, or give latents"
            )
    max_sent_rows = max(1, max_input_bytes(served) // (_LATENT_VALUE_BYTES * served.latent_dim))
    return split(rows, min(max_rows, max_sent_rows), served.latent_dim, served.prior)

"""ModelInfer of the Open Inference Protocol: the way of a request through admission and batching. Decides nothing.

Most requests are small and many, so what is done for each is done here in few steps: no task, no thread, one copy of
the images.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from server.config import ServerConfig
from server.limits import check_time
from server.models.catalog import Catalog, ServedModel, find_model
from server.open_inference.messages import InferResponses, sent_inference
from server.open_inference.repeated_requests import RepeatedRequests
from server.open_inference.tensors import Contract, contract_of
from server.open_inference.validation import MAX_ID_LENGTH, AdmittedInference, admit_inference, read_version
from server.request import Call
from server.rpc.byte_budget import ByteBudget
from server.rpc.parsing import THREAD_WORTHY_BYTES, MessageParser, refuse_message, run_in_thread

_SLOW_VALUES: Final = 1 << 14  # typed ones, each of which costs more than many raw ones


class _Form(NamedTuple):
    """What all requests for one version of a model have in common."""

    contract: Contract
    responses: InferResponses


class _Read(NamedTuple):
    """A request that may be computed."""

    model: ServedModel
    form: _Form
    admitted: AdmittedInference


class StreamedMessage:
    """A message of a stream, whose id is told as soon as it is known: errors carry it, too."""

    __slots__ = ("request_id",)

    def __init__(self) -> None:
        self.request_id = ""


class ModelInfer:
    """Answers ModelInferRequests.

    Args:
        catalog: what is served.
        input_budget: the bytes that large requests, and all images, which are in work may take.
        parser: parses large requests.
        config: the limits.
    """

    def __init__(self, catalog: Catalog, input_budget: ByteBudget, parser: MessageParser, config: ServerConfig) -> None:
        self._catalog = catalog
        self._input_budget = input_budget
        self._parser = parser
        self._config = config
        self._repeated: RepeatedRequests[tuple[_Form, AdmittedInference]] = RepeatedRequests()
        self._forms: dict[str, _Form] = {}  # of the version that was served last, by name

    async def infer(self, body: bytes, call: Call, message: StreamedMessage | None = None) -> bytes:
        """Answers a serialised ModelInferRequest.

        Returns:
            A serialised ModelInferResponse, or ModelStreamInferResponse if it is a `message` of a stream.
        """
        if len(body) < THREAD_WORTHY_BYTES:
            read = self._read_again(body, call) or await self._read_small(body, call, message)
            if not read.form.contract.takes_images:
                return await self._answer(read, call, message)
            with self._input_budget.reserve(len(body)):  # gRPC keeps it until the answer is made
                return await self._answer_budgeted(read, call, message)
        with self._input_budget.reserve(len(body)):
            return await self._answer_budgeted(await self._read_large(body, call, message), call, message)

    async def _answer_budgeted(self, read: _Read, call: Call, message: StreamedMessage | None) -> bytes:
        with self._input_budget.reserve(read.admitted.inputs.nbytes):
            return await self._answer(read, call, message)

    def _read_again(self, body: bytes, call: Call) -> _Read | None:
        """Reads a message that differs from an earlier one in its latents alone; None if it does not. It has no id."""
        if (known := self._repeated.find(body)) is None:
            return None
        (form, said), data = known
        card = form.contract.card
        model = self._catalog.get(card.name)
        if model is None or model.card is not card:  # another version is served by now
            return None
        call.model, call.version, call.rows = card.name, card.version, said.rows
        call.use(model)
        check_time(call.remaining_s)
        return _Read(model, form, said.with_values(data))

    async def _read_small(self, body: bytes, call: Call, message: StreamedMessage | None) -> _Read:
        try:
            request = pb.ModelInferRequest.FromString(body)
        except DecodeError as error:
            raise refuse_message(pb.ModelInferRequest) from error
        read = await self._read(request, call, message, in_thread=False)
        if not read.form.contract.takes_images:
            self._repeated.remember(body, request, (read.form, read.admitted.without_values()))
        return read

    async def _read_large(self, body: bytes, call: Call, message: StreamedMessage | None) -> _Read:
        async with self._parser.parsed(pb.ModelInferRequest, body) as request:
            return await self._read(request, call, message, in_thread=True)

    async def _read(
        self, request: pb.ModelInferRequest, call: Call, message: StreamedMessage | None, *, in_thread: bool
    ) -> _Read:
        sent = sent_inference(request)
        if sent.request_id:  # noted at once, as the log names refused requests, too
            call.request_id = sent.request_id[:MAX_ID_LENGTH]
        if message is not None:
            message.request_id = sent.request_id
        call.model = request.model_name
        model = self._find(request.model_name, request.model_version)
        call.use(model)
        call.version = model.card.version
        form = self._form(model)
        if in_thread or any(len(values) > _SLOW_VALUES for values in sent.typed.values()):
            admitted = await run_in_thread(admit_inference, sent, form.contract, call.remaining_s)
        else:
            admitted = admit_inference(sent, form.contract, call.remaining_s)
        call.rows = admitted.rows
        return _Read(model, form, admitted)

    async def _answer(self, read: _Read, call: Call, message: StreamedMessage | None) -> bytes:
        model, form, admitted = read
        options = admitted.options
        began_s = time.perf_counter()
        call.admission_s = began_s - call.began_s
        deadline = call.deadline
        if options.timeout_s is not None:
            now = asyncio.get_running_loop().time()
            deadline = min(deadline, now - call.admission_s + options.timeout_s)
        arrays = await model.batcher.submit(admitted.inputs, admitted.output_set, deadline, options.priority)
        computed_s = time.perf_counter()
        call.compute_s = computed_s - began_s
        # Not in a thread however large it is: copying an array into bytes keeps the interpreter's lock.
        answer = form.responses.serialize(
            arrays,
            admitted.outputs,
            admitted.rows,
            admitted.request_id,
            streamed=message is not None,
            says_final=message is not None and options.says_final,
        )
        call.encode_s = time.perf_counter() - computed_s
        return answer

    def _find(self, name: str, version: str) -> ServedModel:
        model = self._catalog.get(name)
        if model is None or (version and read_version(version) != model.card.version):
            served = {name: model.card.version for name, model in self._catalog.items()}
            model = self._catalog[find_model(name, read_version(version), served)]
        return model

    def _form(self, model: ServedModel) -> _Form:
        form = self._forms.get(model.card.name)
        if form is None or form.contract.card is not model.card:
            contract = contract_of(model.card, self._config)
            form = self._forms[model.card.name] = _Form(contract, InferResponses(contract))
        return form

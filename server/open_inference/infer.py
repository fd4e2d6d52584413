"""ModelInfer of the Open Inference Protocol: takes a request through admission and batching.

Most requests are small and frequent, so the common path takes few steps: no task, no thread, one copy of the images.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tritonclient.grpc import service_pb2 as pb

from server.limits import Contract
from server.models.catalog import Catalog, ServedModel
from server.open_inference.messages import sent_inference, serialize_inference
from server.open_inference.repeated_requests import RepeatedRequests
from server.open_inference.validation import MAX_ID_LENGTH, AdmittedInference, admit_inference, read_version
from server.request import InFlightRequest
from server.rpc.byte_budget import ByteBudget
from server.rpc.parsing import THREAD_WORTHY_BYTES, MessageParser, parse, run_in_thread

STREAM_METHOD: Final = "ModelStreamInfer"
_SLOW_VALUES: Final = 1 << 14  # more typed values than this are read in a thread


class ModelInfer:
    """Answers ModelInferRequests.

    Args:
        catalog: the served models.
        input_budget: bounds the bytes of all images and large requests in progress.
        parser: parses large requests.
    """

    def __init__(self, catalog: Catalog, input_budget: ByteBudget, parser: MessageParser) -> None:
        self._catalog = catalog
        self._input_budget = input_budget
        self._parser = parser
        self._repeated: RepeatedRequests[tuple[Contract, int | str, AdmittedInference]] = RepeatedRequests()

    async def infer(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised ModelInferRequest.

        Returns:
            A serialised ModelInferResponse; for a message of a stream, a serialised ModelStreamInferResponse.
        """
        if len(body) < THREAD_WORTHY_BYTES:
            model, admitted = self._read_again(body, request) or await self._read_small(body, request)
            if not model.contract.takes_images:
                return await self._answer(model, admitted, request)
            # gRPC keeps the body until the answer is made.
            with self._input_budget.reserve(len(body) + admitted.inputs.nbytes):
                return await self._answer(model, admitted, request)
        with self._input_budget.reserve(len(body)):
            async with self._parser.parsed(pb.ModelInferRequest, body) as message:
                model, admitted = await self._read(message, request, in_thread=True)
            del message
            with self._input_budget.reserve(admitted.inputs.nbytes):
                return await self._answer(model, admitted, request)

    def _read_again(self, body: bytes, request: InFlightRequest) -> tuple[ServedModel, AdmittedInference] | None:
        """Fast path: reads a message that differs from an earlier one only in its latents; None for any other."""
        if (known := self._repeated.find(body)) is None:
            return None
        (contract, version, earlier), data = known
        name = contract.card.name
        model = self._catalog.resolve(name, version)
        if model is None or model.contract is not contract:  # another version is served now
            return None
        self._catalog.find(name, version, request)
        request.rows = earlier.rows
        return model, earlier.with_values(data)

    async def _read_small(self, body: bytes, request: InFlightRequest) -> tuple[ServedModel, AdmittedInference]:
        message = parse(pb.ModelInferRequest, body)
        model, admitted = await self._read(message, request, in_thread=False)
        if not model.contract.takes_images:
            version = read_version(message.model_version)
            self._repeated.remember(body, message, (model.contract, version, admitted.without_values()))
        return model, admitted

    async def _read(
        self, message: pb.ModelInferRequest, request: InFlightRequest, *, in_thread: bool
    ) -> tuple[ServedModel, AdmittedInference]:
        sent = sent_inference(message)
        if sent.request_id:  # before any check, because refused requests are logged with it, too
            request.request_id = sent.request_id[:MAX_ID_LENGTH]
            request.message_id = sent.request_id
        request.model = message.model_name
        model = self._catalog.find(message.model_name, read_version(message.model_version), request)
        if in_thread or any(len(values) > _SLOW_VALUES for values in sent.typed.values()):
            admitted = await run_in_thread(admit_inference, sent, model.contract)
        else:
            admitted = admit_inference(sent, model.contract)
        request.rows = admitted.rows
        return model, admitted

    async def _answer(self, model: ServedModel, admitted: AdmittedInference, request: InFlightRequest) -> bytes:
        options = admitted.options
        began_s = time.perf_counter()
        request.admission_s = began_s - request.began_s
        deadline = request.deadline
        if options.timeout_s is not None:
            now = asyncio.get_running_loop().time()
            deadline = min(deadline, now - request.admission_s + options.timeout_s)
        arrays = await model.batcher.submit(admitted.inputs, admitted.output_set, deadline, options.priority)
        computed_s = time.perf_counter()
        request.compute_s = computed_s - began_s
        streamed = request.method == STREAM_METHOD
        # Not in a thread, even if it is large: copying an array into bytes holds the GIL.
        answer = serialize_inference(
            model.contract,
            arrays,
            admitted.outputs,
            admitted.rows,
            admitted.request_id,
            streamed=streamed,
            says_final=streamed and options.says_final,
        )
        request.encode_s = time.perf_counter() - computed_s
        return answer

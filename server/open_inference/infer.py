"""ModelInfer of the Open Inference Protocol: takes a request through admission and batching.

Most requests are small and frequent, so the common path takes few steps: no task, no thread, one copy of the images.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from server.limits import Contract
from server.models.catalog import Catalog, ServedModel
from server.open_inference.messages import sent_inference, serialize_alike, serialize_inference
from server.open_inference.repeated_requests import Remembered, RepeatedRequests
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

    def infer_together(self, bodies: Sequence[bytes], requests: Sequence[InFlightRequest]) -> list[bytes | None]:
        """Answers requests to tiny models that came together and differ only in their latents, as one batch.

        Those to larger models are left to `infer`, and their rows get into one batch.

        Whatever is special about a request, such as values that are not finite, is left to `infer`.

        Args:
            bodies: serialised ModelInferRequests.
            requests: one for each.

        Returns:
            For each request a serialised ModelInferResponse, or None if `infer` has to answer it.
        """
        answers: list[bytes | None] = [None] * len(bodies)
        alike: dict[int, tuple[Remembered, list[int]]] = {}
        now = asyncio.get_running_loop().time()
        for index, body in enumerate(bodies):
            known = self._repeated.known(body)
            if known is not None and requests[index].deadline > now:
                alike.setdefault(id(known), (known, []))[1].append(index)
        for known, indices in alike.values():
            contract, version, admitted = known.admitted
            model = self._catalog.resolve(contract.card.name, version)
            if model is None or model.contract is not contract or admitted.options.timeout_s is not None:
                continue
            most = model.batcher.rows_at_once // admitted.rows
            if not most:
                if len(indices) > 1:
                    model.batcher.expect_more()  # otherwise the first of them would be a batch of its own
                continue
            for first in range(0, len(indices), most):
                chosen = indices[first : first + most]
                values = b"".join([memoryview(bodies[index])[len(known.head) :] for index in chosen])
                made = _infer_alike(model, admitted, values, [requests[index] for index in chosen])
                for index, answer in zip(chosen, made, strict=False):
                    answers[index] = answer
        return answers

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


def _infer_alike(
    model: ServedModel, admitted: AdmittedInference, values: bytes, requests: Sequence[InFlightRequest]
) -> list[bytes]:
    """Returns the answers to requests with these values; none if they have to be answered one by one."""
    inputs = admitted.read(values)
    if not np.isfinite(inputs).all():
        return []
    return model.answer_at_once(
        inputs,
        admitted.output_set,
        requests,
        [admitted.rows] * len(requests),
        lambda arrays: serialize_alike(model.contract, arrays, admitted.outputs, admitted.rows),
    )

"""The private Cython layer of grpcio on which the core front stands, and the check that it is as expected."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

cygrpc: Any = import_module("grpc._cython.cygrpc")  # no stubs describe it

_NEEDED: Final = {
    "Server": (
        "register_completion_queue",
        "add_http2_port",
        "start",
        "request_call",
        "shutdown",
        "cancel_all_calls",
        "destroy",
    ),
    "CompletionQueue": ("poll", "shutdown"),
    "CompletionType": ("operation_complete", "queue_shutdown", "queue_timeout"),
    "RequestCallEvent": ("call", "call_details", "invocation_metadata"),
    "BatchOperationEvent": ("batch_operations",),
    "CallDetails": ("method", "deadline"),
    "Call": ("start_server_batch", "peer"),
    "ReceiveMessageOperation": ("message",),
    "ReceiveCloseOnServerOperation": ("cancelled",),
}


class UnknownLibraryError(Exception):
    """This grpcio differs from what the core front was written for; the message says where."""


def check_library() -> None:
    """Starts and stops a server without a port, which takes about a millisecond.

    Raises:
        UnknownLibraryError: the core front cannot work.
    """
    for kind, names in _NEEDED.items():
        for name in names:
            if not hasattr(getattr(cygrpc, kind, None), name):
                raise UnknownLibraryError(f"no {kind}.{name}")
    try:
        cygrpc.SendInitialMetadataOperation(None, 0)
        cygrpc.SendMessageOperation(b"", 0)
        cygrpc.SendStatusFromServerOperation((("key", "value"),), 0, b"", 0)
        cygrpc.ReceiveMessageOperation(0)
        cygrpc.ReceiveCloseOnServerOperation(0)
        events = _life_of_a_server()
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise UnknownLibraryError(str(error)) from error
    if events != [("call", False), ("end", True)]:
        raise UnknownLibraryError(f"an unexpected order of events: {events}")


def _life_of_a_server() -> list[tuple[str, bool]]:
    """Returns the tags and the success of the events of a server that asks for a call and then shuts down."""
    kinds = cygrpc.CompletionType
    queue = cygrpc.CompletionQueue()
    server = cygrpc.Server([], False)
    server.register_completion_queue(queue)
    server.start()
    if queue.poll(deadline=0).completion_type != kinds.queue_timeout:
        raise UnknownLibraryError("a new queue is not empty")
    server.request_call(queue, queue, "call")
    server.shutdown(queue, "end")
    events = [queue.poll() for _ in range(2)]
    if any(event.completion_type != kinds.operation_complete for event in events):
        raise UnknownLibraryError("a server does not shut down")
    server.destroy()
    queue.shutdown()
    if queue.poll().completion_type != kinds.queue_shutdown:
        raise UnknownLibraryError("a queue does not shut down")
    return [(event.tag, event.success) for event in events]

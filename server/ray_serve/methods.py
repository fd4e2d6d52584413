"""The unary methods that a replica answers, by their names: Ray calls a method of a replica by its name alone."""

from __future__ import annotations

from typing import Final

from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2

from ganserve.v1 import generator_pb2

# Without ModelControl: a call reaches one replica, and the others would go on as before.
_SERVICES: Final = (
    generator_pb2.DESCRIPTOR.services_by_name["Generator"],
    service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
)

SERVICES: Final[dict[str, tuple[str, ...]]] = {
    service.full_name: tuple(method.name for method in service.methods if not method.server_streaming)
    for service in _SERVICES
}
"""The names of the methods of each service."""

PATHS: Final[dict[str, str]] = {
    method: f"/{service}/{method}" for service, methods in SERVICES.items() for method in methods
}
"""The path of each method, for example /ganserve.v1.Generator/Generate."""

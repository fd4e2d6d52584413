from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import pytest

from client.bench import session
from client.bench.loads import ClosedLoad, Load, OpenLoad
from client.bench.loops import ServerLost
from client.bench.results import OK, Results
from client.bench.session import Measurement, Plan
from client.errors import GanClientError
from client.sdk.channel import endpoint_of
from client.sdk.model_info import models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model

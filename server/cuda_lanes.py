"""The seats of a model on CUDA: one engine a device. Imported only where there is one."""

from __future__ import annotations

import logging
from pathlib import Path

from exporter.bundle import BundleError, Card
from server.config import Precision, ServerConfig
from server.cuda_engine import CudaOnnxEngine, cuda_device_indices
from server.engine import cuda_devices, graph_file, warm_up
from server.errors import StartupError
from server.lane_loading import make_seat, unforeseen_is_broken
from server.lanes import Lanes, LoadedLanes, Seat, close_seats
from server.padding import batch_sizes

_log = logging.getLogger(__name__)


@unforeseen_is_broken()
def load_cuda_lanes(folder: Path, card: Card, config: ServerConfig, max_rows: int) -> LoadedLanes:
    """Loads and warms an engine on each device.

    Raises:
        BundleError: the version is broken, or CUDA has no memory left for it.
        StartupError: CUDA cannot be used, or not in this precision.
    """
    if config.precision == "bf16":
        raise StartupError("--precision bf16: it is for CPUs; on CUDA, use fp32 or fp16")
    indices = cuda_device_indices(cuda_devices(), config.cuda_devices)
    precision: Precision = "fp32"
    if config.precision == "fp16":
        try:
            graph_file(folder, card, "onnx", "fp16")
            precision = "fp16"
        except BundleError as error:
            _log.warning("%s:%d is served in fp32: %s", card.name, card.version, error)
    path = graph_file(folder, card, "onnx", precision)
    seats: list[Seat] = []
    try:
        for index in indices:
            engine = CudaOnnxEngine(
                path,
                card,
                device_index=index,
                batch_rows=batch_sizes(max_rows),
                precision=precision,
                cuda_graphs=config.cuda_graphs,
            )
            seat = make_seat(engine, card, engine.device, 1, engine.sizes[-1])
            seat.padded_rows, seat.close = engine.padded_rows, engine.close
            seats.append(seat)
            warm_up(engine, card, engine.sizes[-1])
    except BaseException:
        close_seats(seats)
        raise
    devices = "cuda:" + ",".join(map(str, indices))
    return LoadedLanes(Lanes(seats), "onnx", devices, precision)

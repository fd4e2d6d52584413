from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.peers.graphs import make_graphs
from benchmarks.peers.served_graph import ServedGraph
from ganserve.bundle import ONNX_FILE


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> list[ServedGraph]:
    """Ours, and the plain export of the same weights."""
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("ours", "plain")]
    return [
        make_graphs(folder, ["gan28"], plain_export=plain)[0]
        for folder, plain in zip(folders, (False, True), strict=True)
    ]


@pytest.mark.parametrize("plain", [False, True])
def test_the_graph_of_the_rivals_outputs_only_images(graphs: list[ServedGraph], *, plain: bool) -> None:
    graph = graphs[plain]
    model = onnx.load(graph.graph)
    assert [value.name for value in model.graph.output] == ["images"]
    assert [value.name for value in model.graph.input] == ["latents"]
    assert (graph.latent_dim, graph.image_shape, graph.image_bytes) == (100, (1, 28, 28), 3136)


@pytest.mark.parametrize("plain", [False, True])
def test_all_servers_serve_the_same_weights(graphs: list[ServedGraph], *, plain: bool) -> None:
    ours = onnxruntime.InferenceSession(
        graphs[0].repository / "gan28" / "1" / ONNX_FILE, providers=["CPUExecutionProvider"]
    )
    images = ours.run(["images"], {"latents": graphs[0].latents(3)})[0]
    np.testing.assert_allclose(graphs[plain].images(3), images, atol=1e-5)
    assert images.std() > 0.05

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ganserve.bundle import ONNX_FILE, example_rows, read_card
from server.engines.onnx_cut import cut_to
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

IMAGES = frozenset({"images"})


@pytest.fixture(scope="module", params=["generator", "translator", "exported"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one version for each kind of graph."""
    if request.param == "exported":
        exported: Path = request.getfixturevalue("exported")
        return exported
    repository = tmp_path_factory.mktemp("repository")
    return publish_tiny_bundle(repository) if request.param == "generator" else publish_tiny_translator(repository)


def parse(model: bytes) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model)


def keep(messages: Any, wanted: Callable[[Any], bool]) -> None:
    """Removes the other items of a repeated field."""
    for index in reversed(range(len(messages))):
        if not wanted(messages[index]):
            del messages[index]


def test_only_nodes_and_outputs_are_removed(folder: Path) -> None:
    model = (folder / ONNX_FILE).read_bytes()
    cut, whole = parse(cut_to(model, IMAGES)), parse(model)
    assert [output.name for output in cut.graph.output] == ["images"]
    assert 0 < len(cut.graph.node) < len(whole.graph.node)
    for weights, original in zip(cut.graph.initializer, whole.graph.initializer, strict=True):
        assert weights.SerializeToString() == original.SerializeToString()
    kept = [node.SerializeToString() for node in cut.graph.node]
    keep(whole.graph.node, lambda node: node.SerializeToString() in kept)
    keep(whole.graph.output, lambda output: output.name == "images")
    assert cut == whole  # order, versions, metadata, and every other field of ONNX included


def test_the_cut_graph_is_valid_and_computes_the_same_images_silently(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = (folder / ONNX_FILE).read_bytes()
    cut = cut_to(model, IMAGES)
    onnx.checker.check_model(cut, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # as in the server
    onnxruntime.set_default_logger_severity(3)
    whole, part = (onnxruntime.InferenceSession(each, options, ["CPUExecutionProvider"]) for each in (model, cut))
    row_input = read_card(folder).input
    for rows in (1, 2, 7):
        feed = {row_input.name: example_rows(row_input, rows, rows)}
        np.testing.assert_array_equal(part.run(["images"], feed)[0], whole.run(["images"], feed)[0])
    assert capfd.readouterr() == ("", "")


def test_a_graph_whose_nodes_are_all_needed_is_unchanged(folder: Path) -> None:
    model = (folder / ONNX_FILE).read_bytes()
    assert cut_to(model, frozenset({"images", "pixels"})) is model
    cut = cut_to(model, IMAGES)
    assert cut_to(cut, IMAGES) is cut


def graph_of(nodes: list[onnx.NodeProto], outputs: list[str], weights: tuple[str, ...] = ()) -> bytes:
    x, *values = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", *outputs))
    initializers = [numpy_helper.from_array(np.zeros(2, np.float32), name) for name in weights]
    model: bytes = helper.make_model(helper.make_graph(nodes, "any", [x], values, initializers)).SerializeToString()
    return model


@pytest.mark.parametrize("around", ["images", "pixels"])
@pytest.mark.parametrize("attribute", ["one", "several"])
def test_a_graph_with_a_subgraph_is_not_cut(around: str, attribute: str) -> None:
    inner = helper.make_graph([helper.make_node("Neg", ["hidden"], ["y"])], "inner", [], [])
    graphs = {"branch": inner} if attribute == "one" else {"branches": [inner, inner]}
    nodes = [
        helper.make_node("Abs", ["x"], ["hidden"]),
        helper.make_node("Neg", ["x"], ["images"], **(graphs if around == "images" else {})),
        helper.make_node("Sqrt", ["x"], ["pixels"], **(graphs if around == "pixels" else {})),
    ]
    model = graph_of(nodes, ["images", "pixels"])
    assert cut_to(model, IMAGES) is model


def test_other_attributes_do_not_prevent_cutting() -> None:
    nodes = [
        helper.make_node("Constant", [], ["weights"], value=numpy_helper.from_array(np.ones(2, np.float32))),
        helper.make_node("Transpose", ["weights"], ["images"], perm=[0]),
        helper.make_node("Cast", ["x"], ["pixels"], to=TensorProto.UINT8),
    ]
    cut = parse(cut_to(graph_of(nodes, ["images", "pixels"]), IMAGES))
    assert list(cut.graph.node) == nodes[:2]


def test_an_output_that_is_missing_is_named() -> None:
    model = graph_of([helper.make_node("Neg", ["x"], ["pixels"])], ["pixels"])
    with pytest.raises(ValueError, match=r"^the graph has no output 'images'$"):
        cut_to(model, IMAGES)


@pytest.mark.parametrize("junk", [b"junk", b"\xff" * 40, b"\x3a\x7f\x01"])
def test_bytes_that_are_not_a_model_are_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not an ONNX model$"):
        cut_to(junk, IMAGES)


@given(data=st.data(), count=st.integers(1, 8))
def test_only_nodes_that_the_wanted_outputs_depend_on_are_kept(data: st.DataObject, count: int) -> None:
    """Node n outputs n.a and n.b, one of which may be omitted as "", and takes any earlier values."""
    nodes, known = [], ["x", "w", ""]
    depends: dict[str, set[int]] = {"x": set(), "w": set(), "": set()}
    for n in range(count):
        takes = data.draw(st.lists(st.sampled_from(known), max_size=3))
        gives = data.draw(st.sampled_from([[f"{n}.a", f"{n}.b"], [f"{n}.a", ""], ["", f"{n}.b"]]))
        nodes.append(helper.make_node("Any", takes, gives, domain="tests"))
        for name in filter(None, gives):
            depends[name] = {n}.union(*(depends[taken] for taken in takes))
            known.append(name)
    names = st.sampled_from([name for name in known if name not in {"x", "w", ""}])
    outputs = data.draw(st.lists(names, min_size=1, max_size=4, unique=True))
    wanted = data.draw(st.sets(st.sampled_from(outputs), min_size=1))
    needed = set().union(*(depends[name] for name in wanted))
    order = data.draw(st.permutations(range(count)))  # runtimes sort nodes, so the order does not matter
    model = graph_of([nodes[n] for n in order], outputs, ("w",))
    cut = cut_to(model, frozenset(wanted))
    if len(needed) == count:
        assert cut is model
    else:
        assert list(parse(cut).graph.node) == [nodes[n] for n in order if n in needed]
        assert [output.name for output in parse(cut).graph.output] == [name for name in outputs if name in wanted]

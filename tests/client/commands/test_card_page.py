from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from client.commands.card_page import Section, sections_of
from client.sdk.model_info import ModelDescription, ModelInfo, models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import model, translator
from tests.client.sdk.test_model_info import JSON, PRINTABLE

KNOWN_FIELDS = st.sampled_from(
    ["training", "parity", "variants", "files", "tool_versions", "input", "ms_ssim", "rows", "images", "published"]
)
PARITY = [
    {"rows": 1, "torchscript_images": 2e-8, "onnx_images": 1e-8, "torchscript_pixels": 0, "onnx_pixels": 1},
    {"rows": 64, "torchscript_images": 1e-8, "onnx_images": 5e-8, "torchscript_pixels": 0, "onnx_pixels": 0},
]
FIDELITY = {
    "images": 256,
    "within_one_level": 0.99995,
    "psnr_db": 74.85,
    "largest_level_difference": 2,
    "published": True,
}


def info(message: pb.Model) -> ModelInfo:
    return models_from(pb.ListModelsResponse(models=[message]))[0]


def describe(card: dict[str, Any], **fields: Any) -> ModelDescription:
    defaults: dict[str, Any] = {"model": info(model()), "file_bytes": {}, "precision": "fp32", "ready": True}
    return ModelDescription(card=card, **(defaults | fields))


def section(card: dict[str, Any], title: str, **fields: Any) -> Section | None:
    description = describe(card, **fields)
    found = [section for section in sections_of(description.model, description) if section.title.startswith(title)]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_generator_is_described_by_its_input_and_output() -> None:
    told = sections_of(info(model(channels=3, width=64, height=32, max_request_bytes=16_777_216)), None)
    assert told == [
        Section(
            "dcgan, version 3",
            [
                ("kind", "dcgan, architecture dcgan"),
                ("takes", "latents of 6 numbers, normal"),
                ("gives", "images of 64x32 pixels (width x height), 3 channels"),
                ("data set", "digits"),
            ],
        ),
        Section("serving", [("runs on", "cpu, onnx"), ("a request", "at most 1024 rows and 16.8 MB of input")]),
    ]


def lines_of(message: pb.Model) -> dict[str, str]:
    return {line[0]: line[1] for section in sections_of(info(message), None) for line in section.lines}


def test_translators_imported_and_future_models_are_described_too() -> None:
    assert lines_of(translator())["takes"] == "images of 3x4 pixels, 3 channels"
    imported = lines_of(model(kind="", dataset=""))
    assert (imported["kind"], imported["data set"]) == ("architecture dcgan", "-")
    future = lines_of(model(task=9, max_request_rows=0))
    assert future["task"] == "unknown to this client; update it"
    assert "a request" not in future


def test_training_and_metrics_are_separate_and_metrics_are_explained() -> None:
    card = {"training": {"preset": "dcgan-digits", "step": 300, "images_seen": 19200, "seed": 0, "ms_ssim": 0.1766880}}
    training, metrics = section(card, "training"), section(card, "metrics")
    assert training is not None
    assert metrics is not None
    assert training.lines == [("preset", "dcgan-digits"), ("steps", "300"), ("images seen", "19200"), ("seed", "0")]
    [(label, value, meaning)] = metrics.lines
    assert (label, value) == ("MS-SSIM", "0.1767")
    assert meaning == "structural similarity between pairs of samples, best when equal to that of real images"


def test_metrics_that_are_not_finite_or_unknown_are_shown() -> None:
    card = {"training": {"ms_ssim": None, "beauty": 0.5}}
    assert section(card, "training") == Section("training", [("beauty", "0.5")])
    assert [line[1] for line in getattr(section(card, "metrics"), "lines", [])] == ["-"]


def test_parity_is_the_largest_difference_over_all_batches() -> None:
    told = section({"parity": PARITY}, "largest")
    assert told == Section(
        "largest difference from PyTorch, in batches of 1, 64 rows",
        [
            ("ONNX", "5e-08 in images (float32)", "1 in pixels (0..255)"),
            ("TorchScript", "2e-08 in images (float32)", "0 in pixels (0..255)"),
        ],
    )


def test_variants_show_their_fidelity_and_whether_they_are_published() -> None:
    variants = {"bf16": FIDELITY, "fp16": FIDELITY | {"published": False}, "fp8": {"images": 0}, "int4": "odd"}
    told = section({"variants": variants}, "reduced precision")
    assert told is not None
    lines = {line[0]: line[1] for line in told.lines}
    assert lines["bf16"] == (
        "published: 99.995% of pixel values within one level of float32, PSNR 74.8 dB, largest difference 2,"
        " over 256 images"
    )
    assert lines["fp16"].startswith("not published: 99.995%")
    assert lines["fp8"] == "not published: the network does not run in this precision"
    assert lines["int4"] == "odd"


def test_files_have_their_known_sizes_and_hashes() -> None:
    card = {"files": {"model.pt": "ab" * 32, "model.onnx": "cd" * 32}}
    told = section(card, "files", file_bytes={"model.onnx": 14_204_211, "more": 9})
    assert told is not None
    assert told.lines == [
        ("model.onnx", "14.2 MB", "cd" * 32),
        ("model.pt", "-", "ab" * 32),
        ("more", "9 bytes", "-"),
    ]


def test_a_model_that_is_not_ready_has_a_reason() -> None:
    told = section({}, "serving", ready=False, precision="bf16")
    assert told is not None
    assert told.lines[1:3] == [("precision", "bf16"), ("ready", "no: an engine is being rebuilt")]


def test_unknown_fields_come_last_and_are_shortened() -> None:
    description = describe({"licence": "CC0", "notes": ["x" * 300], "training": [1]})
    sections = sections_of(description.model, description)
    assert sections[-1].title == "more"
    assert sections[-1].lines[0] == ("licence", "CC0")
    assert sections[-1].lines[2] == ("training", "[1]")
    assert len(sections[-1].lines[1][1]) < 250


@settings(max_examples=40)
@given(st.dictionaries(PRINTABLE | KNOWN_FIELDS, JSON | st.dictionaries(KNOWN_FIELDS, JSON), max_size=6))
def test_any_card_is_shown_on_single_lines(card: dict[str, Any]) -> None:
    description = describe(card)
    for shown in sections_of(description.model, description):
        assert shown.title.isprintable()
        assert shown.lines
        for line in shown.lines:
            assert all(text.isprintable() and len(text) < 400 for text in line)


@given(st.dictionaries(st.sampled_from([*FIDELITY]), JSON | st.just(10**400)))
def test_any_variant_is_shown(variant: dict[str, Any]) -> None:
    told = section({"variants": {"bf16": FIDELITY | variant}}, "reduced precision")
    assert told is not None

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.catalogue import RIVALS
from benchmarks.peers.choice import choose_cells, choose_models, choose_peers, choose_rates

HOME = Path("/nowhere")


def names(text: str, *variants: str) -> list[str]:
    return [peer.name for peer in choose_peers(text, variants, HOME).peers]


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_has_default_layouts(rival: str) -> None:
    assert names(rival) == [f"{rival} {layout}" for layout in RIVALS[rival][1]]


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_takes_another_layout(rival: str) -> None:
    assert names(f"{rival}:1x7") == [f"{rival} 1x7"]


def test_the_order_is_kept_and_repeats_are_dropped() -> None:
    assert names("floor,triton:2x1,ours,triton:2x1") == ["floor", "triton 2x1", "ours"]


def test_variants_of_ours_follow_ours() -> None:
    chosen = choose_peers("ours,floor", ["bf16:--precision bf16", "two:--engines 2"], HOME)
    assert [(peer.name, peer.precision, peer.is_ours) for peer in chosen.peers] == [
        ("ours", "fp32", True),
        ("ours bf16", "bf16", True),
        ("ours two", "fp32", True),
        ("floor", "fp32", False),
    ]


def test_in_process_is_not_a_server() -> None:
    assert choose_peers("in-process,floor", [], HOME).in_process
    assert names("in-process,floor") == ["floor"]
    assert not choose_peers("floor", [], HOME).in_process


@pytest.mark.parametrize(
    ("text", "variants", "named"),
    [
        ("trition", [], "trition"),
        ("triton:2", [], "'2'"),
        ("floor:2x1", [], "floor:2x1"),
        ("mlserver:2x1", [], "mlserver:1x1"),
        ("floor,,ours", [], "empty"),
        ("floor", ["bf16:--precision bf16"], "needs ours"),
        ("ours", ["--precision bf16"], "NAME:FLAGS"),
        ("ours", ["bf16:--models 'x"], "quot"),
    ],
)
def test_an_error_names_the_invalid_value(text: str, variants: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        choose_peers(text, variants, HOME)


def test_rates_are_kept_by_model() -> None:
    assert choose_rates("gan28:500,dcgan64:150,gan28:1000") == {"gan28": [500.0, 1000.0], "dcgan64": [150.0]}
    assert choose_rates("") == {}


@pytest.mark.parametrize("text", ["gan28", "gan28:", "gan28:x", "gan28:0", "gan28:nan", "gan28:inf", "vae:5"])
def test_an_error_names_the_invalid_rate(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition(":")[0]):
        choose_rates(text)


def test_cells_and_models_are_checked() -> None:
    assert choose_cells("1x32,64x4") == [(1, 32), (64, 4)]
    assert choose_models("dcgan64,gan28") == ["dcgan64", "gan28"]
    with pytest.raises(ValueError, match="65x1"):
        choose_cells("65x1")
    with pytest.raises(ValueError, match="vae"):
        choose_models("vae")

"""`python -m trainer.report`: one self-contained page about any run, even with hostile files."""

from __future__ import annotations

import base64
import html.parser
import io
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from tests.trainer.report.conftest import KINDS, run
from trainer.report.record import MAX_WARNINGS
from trainer.runs.run_folder import RunFolder

EVIL = '"><script>alert(1)</script>'


class Page(html.parser.HTMLParser):
    """The parts of a page that a browser would show."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.pictures: dict[str, bytes] = {}
        self.text = ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [str(given[name]) for name in ("src", "href", "srcset", "action") if name in given]
        assert not [name for name in given if name.startswith("on")]
        if tag == "img":
            self.pictures[str(given["alt"])] = base64.b64decode(str(given["src"]).partition(",")[2])

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(*runs: Path, out: Path) -> Page:
    result = run(*runs, "--out", out / "page.html")
    assert result.exit_code == 0, result.output
    page = Page(out / "page.html")
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(re.match(r"data:image/(png|svg\+xml);base64,", address) for address in page.addresses)
    assert "://" not in re.sub(r'"data:[^"]*"', "", page.source)
    return page


@pytest.fixture(scope="module")
def pages(kinds_of_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """The page of each run, charts included."""
    return {kind: page_of(path, out=tmp_path_factory.mktemp(kind)) for kind, path in kinds_of_runs.items()}


TITLES = {
    "dcgan": ("Generator and discriminator loss", "Confidence of the discriminator"),
    "wgan-gp": ("Generator and critic loss", "Critic score"),
    "pggan": ("Generator and critic loss", "Critic score"),
    "cyclegan": ("Generator and discriminator loss", "Scores of the discriminator"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_run_has_its_curves_samples_settings_and_commands(
    kind: str, kinds_of_runs: dict[str, Path], pages: dict[str, Page]
) -> None:
    path, page = kinds_of_runs[kind], pages[kind]
    config = RunFolder.open(path).read_config()
    assert f"Run {path.name}" in page.text
    assert f'"{config.network.architecture}"' in page.text
    assert f"python -m trainer --model {config.model} --preset {config.preset}" in page.text
    assert f"python -m exporter {path.name}" in page.text
    assert str(path.parent) not in page.source
    losses, scores = TITLES[kind]
    assert {losses, scores} <= page.pictures.keys()
    assert ("Confidence" in page.text) == (kind == "dcgan")
    assert ("Parts of the generators' loss" in page.pictures) == (kind == "cyclegan")
    assert ("Images that the discriminator tells apart" in page.pictures) == (kind == "dcgan")
    assert ("Test images and translations" if kind == "cyclegan" else "Real images next to fakes") in page.pictures
    sheet = "Single dimensions of the latents at chosen values"
    assert (sheet in page.pictures) == (kind != "cyclegan")
    samples = [caption for caption in page.pictures if caption.startswith("step ")]
    assert samples[-1] == "step 6"
    assert len(samples) > 1
    assert ("L1 (smaller is better)" if kind == "cyclegan" else "SWD (smaller is better)") in page.pictures
    for content in page.pictures.values():
        if content.startswith(b"\x89PNG"):
            Image.open(io.BytesIO(content)).verify()
        else:
            assert ET.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.usefixtures("no_charts")
def test_runs_of_all_kinds_are_compared_side_by_side(kinds_of_runs: dict[str, Path], tmp_path: Path) -> None:
    page = page_of(*kinds_of_runs.values(), out=tmp_path)
    assert f"{len(KINDS)} runs compared" in page.text
    assert page.text.count("0001-dcgan-digits") >= 3
    assert [caption for caption in page.pictures if caption.endswith("-cyclegan-digits, step 6")]
    assert "At the end" in page.text


@pytest.mark.usefixtures("no_charts")
def test_the_table_of_runs_fits_into_80_columns(kinds_of_runs: dict[str, Path], tmp_path: Path) -> None:
    output = run(*kinds_of_runs.values(), "--out", tmp_path / "page.html").output
    table = output.partition("Runs in the report")[2].partition("report:")[0].splitlines()
    assert table[1].split() == ["run", "preset", "steps", "warnings", "metric", "last", "best"]
    assert len(table[2:]) == len(KINDS)
    assert all(len(line) <= 80 for line in table)
    assert any(" SWD " in line for line in table)


def test_a_chart_names_its_axes_and_units(pages: dict[str, Page]) -> None:
    chart, critic = (pages[kind].pictures[TITLES[kind][1]].decode() for kind in ("dcgan", "wgan-gp"))
    assert "steps" in chart
    assert "probability of being real" in chart
    assert "critic score" in critic
    assert "D(x) - D(G(z))" in critic


def test_the_same_run_gives_the_same_page(
    kinds_of_runs: dict[str, Path], pages: dict[str, Page], tmp_path: Path
) -> None:
    assert page_of(kinds_of_runs["dcgan"], out=tmp_path).source == pages["dcgan"].source


@pytest.mark.usefixtures("no_charts")
def test_a_run_without_output_has_a_page(own_run: Path, tmp_path: Path) -> None:
    (own_run / "metrics.jsonl").unlink()
    for folder in ("samples", "figures", "checkpoints"):
        for file in (own_run / folder).iterdir():
            file.unlink()
    page = page_of(own_run, out=tmp_path)
    assert "0 steps" in page.text
    assert page.pictures == {}


@pytest.mark.usefixtures("no_charts")
def test_warnings_of_a_run_are_shown_and_bounded(own_run: Path, tmp_path: Path) -> None:
    with (own_run / "metrics.jsonl").open("w") as file:
        for step in range(MAX_WARNINGS + 3):
            file.write(f'{{"kind": "warning", "step": {step}, "name": "x", "text": "it has collapsed"}}\n')
    page = page_of(own_run, out=tmp_path)
    assert page.text.count("it has collapsed") == MAX_WARNINGS
    assert "3 more warnings" in page.text


def test_hostile_text_is_escaped(own_run: Path, tmp_path: Path) -> None:
    escaped = EVIL.replace('"', '\\"')
    config = own_run / "config.json"
    config.write_text(config.read_text().replace('"dcgan-digits"', f'"{escaped}"'))
    with (own_run / "metrics.jsonl").open("a") as file:
        file.write(f'{{"kind": "warning", "step": 1, "name": "x", "text": "{escaped}"}}\n')
        file.write(f'{{"kind": "evaluation", "step": 7, "{escaped}": 1.5, "ms_ssim": 0.5, "split": "{escaped}"}}\n')
        file.write(f'{{"kind": "step", "step": 7, "{escaped}": 1.5, "$x_{{$": 3, "d_loss": 1e300}}\n')
    evil = own_run.rename(tmp_path / "a<b>$_\\")
    page = page_of(evil, out=tmp_path)
    assert page.text.count(EVIL) >= 3
    assert "a<b>$_\\" in page.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{}", "not a valid config"),
        ("metrics.jsonl", b"nonsense\n", "line 1: not a line of metrics"),
        ("metrics.jsonl", b'{"kind": "step", "step": -1}\n', "step -1 is out of range"),
        ("metrics.jsonl", b'{"kind": "step", "step": 1' + b"0" * 400 + b"}\n", ""),
    ],
)
def test_a_damaged_run_is_an_error_in_one_line(
    name: str, content: bytes, message: str, own_run: Path, tmp_path: Path
) -> None:
    (own_run / name).write_bytes(content)
    result = run(own_run, "--out", tmp_path / "page.html")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_mistakes_are_one_line_errors(kinds_of_runs: dict[str, Path], tmp_path: Path) -> None:
    some = kinds_of_runs["dcgan"]
    for arguments, message in (
        ((), "RUN is missing"),
        ((tmp_path,), "not a run folder"),
        ((some, some), "the same run occurs twice"),
        ((some, "--out", tmp_path / "none" / "page.html"), "no such folder"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_trainer_accepts_the_command_of_a_run(kind: str, kinds_of_runs: dict[str, Path], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from trainer.__main__ import main as train_main
    from trainer.config import from_json, override
    from trainer.report.parts import command_of

    config = RunFolder.open(kinds_of_runs[kind]).read_config()
    command, note = command_of(config)
    result = CliRunner().invoke(train_main, [*shlex.split(command)[3:], "--dry-run"])
    assert result.exit_code == 0, result.output
    resolved = from_json(result.stdout.encode())
    # Settings without a flag are in the note: the moments of checkpoints.
    assert "checkpoint_every_steps = 2" in note
    same = override(resolved, {"checkpoint_every_steps": 2, "network.channels": config.network.channels})
    assert same == config

from __future__ import annotations

from click.testing import CliRunner

from benchmarks import train_throughput


def test_too_few_pictures_for_one_batch_are_an_error() -> None:
    result = CliRunner().invoke(train_throughput.main, ["--preset", "dcgan-fmnist32", "--pictures", "63"])
    assert result.exit_code == 2
    assert "63 do not fill one batch of 64" in result.output

"""The operator's shaping file is read anew when it changes, and a broken one changes nothing."""

import os
from pathlib import Path

import pytest

from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings
from depesche.streams.stages.shaping_watch import ShapingWatch


def test_a_changed_file_holds_within_two_seconds_and_a_broken_one_keeps_the_last(tmp_path: Path) -> None:
    now, file = [100.0], tmp_path / "shaping.toml"
    watch = ShapingWatch(Settings.model_validate({"home": tmp_path}), lambda: now[0])
    before = watch.of("hoster.example")
    for number, (text, expected) in enumerate([("3", 3), ("0", 3), ("nonsense", 3), ("7", 7)]):
        file.write_text(f'[provider."hoster.example"]\nconnections = {text}\n')
        os.utime(file, ns=(number, number))
        now[0] += 1.5
        assert watch.of("hoster.example").connections == expected
    file.unlink()
    now[0] += 1.5
    assert watch.of("hoster.example") == before


def test_at_the_start_a_broken_file_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "shaping.toml").write_text("[default]\nrate = 5\n")
    with pytest.raises(SetupError, match=r"shaping\.toml, line 2: rate"):
        ShapingWatch(Settings.model_validate({"home": tmp_path}))

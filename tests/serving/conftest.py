"""One recorded run for all tests of what serves it."""

from pathlib import Path

import pytest
from command_line import settle
from served_run import made
from small_budget import small_budget


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Path:
    """A folder with images and the run of a nearest centroid."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        settle(folder, folder, patch)
        made(folder, "nearest_centroid")
    return folder


@pytest.fixture(scope="module")
def place(served):
    """That folder as the working directory. Methods that adapt are calibrated on few episodes."""
    with pytest.MonkeyPatch.context() as patch:
        settle(served, served, patch)
        small_budget(patch, adapted_calibration_episodes=6)
        yield served

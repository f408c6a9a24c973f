"""One recorded run for all tests of what serves it."""

from pathlib import Path

import pytest
from command_line import settle
from served_run import made


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
        patch.setattr("bench.serving.calibration.ADAPTED_EPISODES", 6)
        yield served

"""Names of folders, classes and images reach the terminal as text, whoever chose them."""

import pytest
from bad_inputs import write_tiny
from command_line import bench

NAME = "p[/q][bold]\x1b[31m\u202e"
FOLDER = ["--dataset", f"folder:{NAME}"]
RUN = [
    "run", "--method", "siamese_triplet", "--preset", "smoke", "--steps", "2", "--device", "cpu", *FOLDER,
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory):
    """A folder, a class and a damaged image whose names are commands of the terminal and markup of Rich."""
    folder = tmp_path_factory.mktemp("escapes")
    write_tiny(folder / NAME)
    (folder / NAME / "c7").rename(folder / NAME / "c7[bold]\x1b[2J\n# heading")
    (folder / NAME / "c0" / "\x1b]0;title\x07[bold].png").write_bytes(b"no image")
    (folder / NAME / "c0" / "line\r\nbreak.png").write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FEWSHOT_CACHE", str(folder / f"cache of {NAME.replace('/', '')}"))
        yield folder


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["data", "info", *FOLDER], 0),
        (["data", "verify", *FOLDER], 1),
        (["data", "cache"], 0),
        pytest.param([*RUN, "--split", "50-50", "--verbose"], 0, marks=pytest.mark.slow),
        ([*RUN, "--split", "90-11"], 2),
    ],
    ids=lambda own: " ".join(own[:2]) if isinstance(own, list) else "",
)
def test_no_control_character_is_shown(command, code):
    answer = bench(*command)
    assert answer.code == code and "Traceback" not in answer.err
    assert not set(answer.out + answer.err) & set("\x1b\x07\r\u202e")
    assert not [line for line in answer.out.splitlines() if line.startswith("# heading")]


@pytest.mark.slow
def test_nor_from_the_records_of_such_a_run():
    assert bench(*RUN, "--split", "50-50").code == 0
    for command in (["list", "runs"], ["leaderboard", "--show"], ["validate"], ["show", "siamese-triplet"]):
        answer = bench(*command)
        assert answer.code == 0 and not set(answer.out + answer.err) & set("\x1b\x07\r\u202e"), command

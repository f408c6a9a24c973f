"""Records damaged at random: whatever is in the file, it is used or named, and no command breaks on it."""

import contextlib
import copy
import hashlib
import io
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Answer, bench
from figure_records import write

from bench.common.errors import UserError
from bench.records import store
from bench.records.arrays import read_arrays

pytestmark = pytest.mark.slow
BYTES, VALUES, ARCHIVES = 14, 14, 8
"""How many times bytes are damaged, values replaced, and answers damaged, of each seed."""
seeds = pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 20))])

OTHER_VALUES = (
    None, True, -1, 0, 1, 10**9, 10**18, 10**400, 1e308, -1e308, 5e-324, float("nan"), float("inf"), "", "x",
    "../../x", "\u202e\x1b[2J", "<script>", "a|b", "a" * 5000, [], {}, [[]], {"a": {"b": 1}},
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
)  # fmt: skip

Place = tuple[Any, ...]


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """The path of every value in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from places(inner, (*above, key))


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """The file after one accident."""
    spot = rng.randrange(len(content))
    length = rng.randrange(1, 200)
    match rng.randrange(8):
        case 0:  # flipped bits
            changed = bytearray(content)
            for _ in range(rng.randrange(1, 20)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 1:
            return content[:spot]
        case 2:
            return content[:spot] + content[spot + length :]
        case 3:
            return content[:spot] + content[spot : spot + length] + content[spot:]
        case 4:
            return content[:spot] + rng.randbytes(length) + content[spot:]
        case 5:
            return rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"\0"]) + content
        case 6:
            return content[:spot] + b"[" * rng.randrange(1, 5000) + content[spot:]
        case _:
            return content.decode().encode(rng.choice(["utf-16", "utf-32", "utf-16-le", "utf-7"]))


def damaged_values(fields: dict[str, Any], rng: random.Random) -> str:
    """The record with a few values replaced, left out or added, or a key written twice."""
    changed = copy.deepcopy(fields)
    for _ in range(rng.choice([1, 1, 1, 3])):
        # Half of the time among the fields themselves, of which there are fewer than values within them.
        *above, key = rng.choice(
            [(name,) for name in changed] if rng.random() < 0.5 else list(places(changed))
        )
        owner = changed
        for step in above:
            owner = owner[step]
        if isinstance(owner, dict) and rng.random() < 0.15:
            del owner[key]
        elif isinstance(owner, dict) and rng.random() < 0.1:
            owner[rng.choice(["", "x", "../x", "fewshot/9w9s", "generalized/1+1/1s/novel"])] = owner[key]
        else:
            owner[key] = rng.choice(OTHER_VALUES)
    text = json.dumps(changed)
    return text.replace("{", '{"method": "x", "seed": {}, ', 1) if rng.random() < 0.1 else text


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Iterator[Path]:
    """Two methods with two seeds each; one record is damaged, again and again."""
    folder = tmp_path_factory.mktemp("fuzzed")
    for seed in (0, 1):
        for method, accuracy in (("protonet", 0.6), ("mtl", 0.5)):
            write(folder / "results", method=method, seed=seed, accuracy=accuracy)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "120")
        yield folder


@pytest.fixture
def victim(workspace) -> Iterator[Path]:
    path = sorted(Path("results").rglob("*.json"))[0]
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


COMMANDS = (
    "leaderboard",
    "leaderboard --show",
    "validate",
    "show",
    "list runs",
    "compare protonet mtl",
    "compare",
)


def survives(victim: Path, command: str) -> Answer:
    """The command's answer, in which a file that is not a record is named, and only records are used."""
    operands = {"show": [victim], "compare": [victim, "mtl"]}.get(command, [])
    answer = bench(*command.split(), *operands)
    try:
        store.read(victim)
    except UserError as error:
        said = answer.out if command == "validate" else answer.err
        assert victim.name in said, (command, answer)
        assert answer.code == (2 if operands else 1), (command, answer)
        assert "\x1b" not in answer.err and len(error.allowed) < 500
    else:
        # It may still contradict the other records, or its own file of answers.
        assert answer.code in (0, 1, 2), (command, answer)
        assert answer.code < 2 or answer.err.startswith("error: ")
    assert "Traceback" not in answer.err
    return answer


@seeds
def test_damaged_bytes(victim, seed):
    rng, content = random.Random(seed), victim.read_bytes()
    refused = 0
    for number in range(BYTES):
        victim.write_bytes(damaged_bytes(content, rng))
        answer = survives(victim, COMMANDS[number % len(COMMANDS)])
        refused += answer.code > 0
    assert refused > 0.8 * BYTES  # the damage is severe


@seeds
def test_replaced_values(victim, seed):
    rng, fields = random.Random(seed), json.loads(victim.read_text())
    refused = 0
    for number in range(VALUES):
        victim.write_text(damaged_values(fields, rng))
        answer = survives(victim, COMMANDS[number % len(COMMANDS)])
        refused += answer.code > 0
    assert refused > 0.4 * VALUES


ODD_ARRAYS = (
    np.array(["x"] * 40), np.array([b"x"] * 40), np.zeros(40, complex), np.zeros(40, "M8[s]"),
    np.zeros(40, bool), np.zeros(40, [("a", int)]), np.full(40, np.nan), np.full(40, -1), np.zeros(0),
    np.full(40, 2**63, np.uint64), np.zeros((40, 0)), np.array(1), np.zeros((2, 2, 2)),
    np.full(40, np.inf), np.zeros(400, np.float16),
)  # fmt: skip


def damaged_archive(arrays: dict[str, np.ndarray], rng: random.Random) -> bytes:
    """A per-episode file with a member that is odd, damaged, too large or no array."""
    content = io.BytesIO()
    victim = rng.choice(sorted(arrays))
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, rng.choice(ODD_ARRAYS) if name == victim and rng.random() < 0.6 else array)
            data = member.getvalue()
            if name == victim and rng.random() < 0.5:
                data = rng.choice(
                    [
                        data[: rng.randrange(len(data))],
                        rng.randbytes(50),
                        b"",
                        data.replace(b"(40,)", b"(%d,)" % 10 ** rng.randrange(3, 25)),
                        data.replace(b"<u2", b"|O "),
                        data.replace(b"(40,)", b"(40,"),
                    ]
                )
            archive.writestr(f"{name}.npy", data)
    return content.getvalue() if rng.random() < 0.8 else damaged_bytes_of(content.getvalue(), rng)


def damaged_bytes_of(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(10):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@seeds
def test_damaged_answers(victim, seed):
    """Of a file whose SHA-256 the record was given: whoever writes the one can write the other."""
    rng, fields = random.Random(seed), json.loads(victim.read_text())
    file = victim.with_suffix(".npz")
    whole = file.read_bytes()
    with np.load(io.BytesIO(whole)) as members:
        arrays = dict(members)
    commands = ["validate", "leaderboard", "compare protonet mtl", "show"]
    try:
        for number in range(ARCHIVES):
            file.write_bytes(damaged_archive(arrays, rng))
            fields["episode_file_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
            victim.write_text(json.dumps(fields))
            survives(victim, commands[number % len(commands)])
            for wanted in ("novel/pair_scores", "curve/loss"):
                with contextlib.suppress(UserError):
                    found = read_arrays(store.read(victim), victim.parent, wanted.__eq__)
                    assert all(isinstance(array, np.ndarray) for array in found.values())
    finally:
        file.write_bytes(whole)


def test_the_others_are_ranked_as_if_it_were_not_there(victim):
    victim.write_bytes(victim.read_bytes()[:1000])
    assert bench("leaderboard").code == 1
    beside = Path("leaderboard.md").read_text(encoding="utf-8")
    victim.rename("aside")
    try:
        assert bench("leaderboard").code == 0
        assert Path("leaderboard.md").read_text(encoding="utf-8") == beside
    finally:
        Path("aside").rename(victim)

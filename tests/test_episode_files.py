"""The arrays beside a record: accuracies of its episodes, and files that are not its own."""

import numpy as np
import pytest
from record_factory import EPISODES, make_episodes, make_record

from bench.common.errors import UserError
from bench.records import store
from bench.records.arrays import read_episodes


def test_episodes_come_back_as_accuracies(tmp_path):
    episodes = make_episodes()
    record = store.read(store.write(make_record(), tmp_path, episodes))
    accuracies = read_episodes(record, tmp_path, ["5w1s", "allw1s", "9w9s"])
    assert set(accuracies) == {"5w1s", "allw1s"}
    np.testing.assert_array_equal(accuracies["5w1s"], episodes["5w1s"] / 75)
    np.testing.assert_array_equal(accuracies["allw1s"], episodes["allw1s"] / 5990)
    with np.load(tmp_path / f"{record.run_id}.npz") as arrays:
        np.testing.assert_array_equal(arrays["5w5s"], episodes["5w5s"])


def test_episodes_may_have_a_number_of_queries_each(tmp_path):
    episodes = make_episodes() | {"allw1s/queries": np.arange(5990, 5990 + EPISODES)}
    record = store.read(store.write(make_record(), tmp_path, episodes))
    accuracies = read_episodes(record, tmp_path, ["allw1s"])["allw1s"]
    np.testing.assert_array_equal(accuracies, episodes["allw1s"] / np.arange(5990, 5990 + EPISODES))


def test_a_record_without_an_episode_file_has_no_accuracies(tmp_path):
    assert read_episodes(make_record(), tmp_path, ["5w1s"]) == {}


def test_an_episode_file_that_is_not_the_records_own_is_refused(tmp_path):
    record = store.read(store.write(make_record(), tmp_path, make_episodes()))
    path = tmp_path / f"{record.run_id}.npz"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="does not belong to the record"):
        read_episodes(record, tmp_path, ["5w1s"])
    path.unlink()
    with pytest.raises(UserError, match=r"\.npz"):
        read_episodes(record, tmp_path, ["5w1s"])


@pytest.mark.parametrize(
    "change",
    [
        {"5w1s": np.zeros(EPISODES - 1, np.uint8)},
        {"5w1s": np.full(EPISODES, 76, np.uint8)},
        {"5w1s/queries": np.array(0)},
        {"5w1s": np.array([None] * EPISODES)},
        {"5w1s": np.array(["x"] * EPISODES)},
    ],
)
@pytest.mark.filterwarnings("ignore:.*(divide|invalid value).*:RuntimeWarning")
def test_an_episode_file_that_does_not_hold_the_episodes_is_refused(tmp_path, change):
    record = store.read(store.write(make_record(), tmp_path, make_episodes() | change))
    with pytest.raises(UserError, match=r"\.npz"):
        read_episodes(record, tmp_path, ["5w1s"])


def test_an_episode_file_without_its_settings_is_refused(tmp_path):
    record = store.read(store.write(make_record(), tmp_path, {"other": np.zeros(3)}))
    with pytest.raises(UserError, match="5w1s"):
        read_episodes(record, tmp_path, ["5w1s"])


@pytest.mark.slow
def test_answers_that_unpack_to_more_than_the_record_counts_are_not_unpacked(tmp_path, monkeypatch):
    """100 kB for 100 MB here; 1.5 MB can be 14 GB."""
    bomb = np.zeros(100_000_000, np.uint8)
    for method in ("protonet", "mtl"):
        store.write(make_record(method=method), tmp_path, make_episodes() | {"5w1s": bomb})
    record = store.read(tmp_path / "cifar100-mtl-quick-0.json")
    assert (tmp_path / record.episode_file).stat().st_size < 200_000

    def unpack(*_, **__):
        raise AssertionError("unpacked")

    monkeypatch.setattr("numpy.lib.npyio.NpzFile.__getitem__", unpack)
    with pytest.raises(UserError, match="unpacked, its arrays have 100,0"):
        read_episodes(record, tmp_path, ["5w1s"])

"""Checks whether two runs have the same episodes."""

from __future__ import annotations

from bench.records.identity import split_digest
from bench.records.store import Record


def why_incomparable(first: Record, second: Record, setting: str) -> str | None:
    """Why two records are not comparable in a setting; None if they are.

    They are comparable if the episodes are the same, or if one list is the beginning of the other: methods
    that adapt in each episode use the first 1,000 of the same 10,000. Then the hashes differ, so the longer
    list is redrawn from the class sizes and both hashes are checked.

    Args:
        first: has the setting.
        second: has it too.
        setting: such as ``5w1s``.
    """
    if first.protocol_version != second.protocol_version:
        versions = f"{first.protocol_version} and {second.protocol_version}"
        return f"they have protocol versions {versions}, whose numbers are not comparable"
    if first.fingerprint != second.fingerprint:
        fingerprints = f"{first.fingerprint[:12]} and {second.fingerprint[:12]}"
        return f"their images differ: {first.dataset} and {second.dataset}, fingerprints {fingerprints}"
    digests = split_digest(first), split_digest(second)
    if None not in digests and digests[0] != digests[1]:
        return f"the classes or images of their splits differ, {first.split} and {second.split}"
    one, two = first.episodes[setting], second.episodes[setting]
    if one.sha256 == two.sha256:
        return None
    if first.split != second.split:
        return f"their splits differ, {first.split} and {second.split}"
    for what in ("way", "shot", "query", "seed"):
        if getattr(one, what) != getattr(two, what):
            numbers = f"{getattr(one, what)} and {getattr(two, what)}"
            return f"their episodes of {setting} differ in {what}: {numbers}"
    if one.count == two.count:
        return f"their episodes of {setting} differ: the hashes are different"
    pool = first.pools.get("novel") or second.pools.get("novel")
    if not pool:
        counts = f"one answered {one.count:,} and the other {two.count:,} episodes of {setting}"
        return f"{counts}, and neither has the class sizes that are needed to compare their beginnings"
    if not _begin_alike(first, second, setting, pool):
        return f"their episodes of {setting} differ: neither list is the beginning of the other"
    return None


def _begin_alike(first: Record, second: Record, setting: str, pool: dict[str, int]) -> bool:
    """Whether the shorter list is the beginning of the longer list, which is redrawn from the class sizes."""
    from bench.records.arrays import redraw_episodes
    from bench.sampling.episodes import EpisodeList

    short, long = sorted((first, second), key=lambda record: record.episodes[setting].count)
    every = redraw_episodes(long.model_copy(update={"pools": {"novel": pool}}), setting)
    if every is None:
        return False
    info = short.episodes[setting]
    beginning = EpisodeList(**{name: array[: info.count] for name, array in vars(every).items()})
    return beginning.sha256() == info.sha256

"""Whether two runs answered the same episodes."""

from __future__ import annotations

from collections.abc import Mapping

from bench.records.identity import split_digest
from bench.records.store import Record


def why_not(first: Record, second: Record, setting: str) -> str | None:
    """Why two records' answers to a setting do not compare, or None if they do.

    They do where the episodes are the same, or where the one list is the beginning of the other: methods
    that learn anew in each episode answer the first 1,000 of the same 10,000. Then hashes differ, so the
    longer list is drawn again from the class sizes and both hashes are checked.

    Args:
        first: has the setting.
        second: has it too.
        setting: such as ``5w1s``.
    """
    if first.protocol_version != second.protocol_version:
        versions = f"{first.protocol_version} and {second.protocol_version}"
        return f"they were measured under protocol versions {versions}, whose numbers do not compare"
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
            return f"their episodes of {setting} differ in {what}, {numbers}"
    if one.count == two.count:
        return f"their episodes of {setting} differ, as the hashes do"
    pool = first.pools.get("novel") or second.pools.get("novel")
    if not pool:
        counts = f"one answered {one.count:,} and the other {two.count:,} episodes of {setting}"
        return f"{counts}, and neither has the class sizes from which to check that they begin alike"
    if not begin_alike(first, second, setting, pool):
        return f"their episodes of {setting} differ, and neither list is the other's beginning"
    return None


def begin_alike(first: Record, second: Record, setting: str, pool: Mapping[str, int]) -> bool:
    """Whether the shorter list of episodes is the beginning of the longer: both are drawn again.

    Args:
        first: has the setting.
        second: has it too, with the same fingerprint, split, way, shot, query and seed.
        setting: such as ``5w1s``.
        pool: novel class to number of images, in the order of the record.
    """
    import numpy as np

    from bench.records.arrays import setting_of
    from bench.sampling.episodes import ClassPool, EpisodeList, draw
    from bench.sampling.keys import episode_key

    ordered = sorted((first, second), key=lambda record: record.episodes[setting].count)
    short, long = (record.episodes[setting] for record in ordered)
    drawn = setting_of(ordered[1], setting)
    sizes = ClassPool(np.repeat(np.arange(len(pool)), list(pool.values())))
    try:
        every = draw(sizes, episode_key(first.fingerprint, first.split, drawn, long.seed), drawn)
    except ValueError:  # such classes have no such episodes
        return False
    start = slice(short.count)
    beginning = EpisodeList(
        every.classes[start], every.support[start], every.query[start], every.labels[start]
    )
    return every.sha256() == long.sha256 and beginning.sha256() == short.sha256

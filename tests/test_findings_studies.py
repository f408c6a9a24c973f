"""The sentences with numbers of docs/findings.md after its section 6 say what the records say."""

import pytest
from markdown_reader import plain
from recorded_numbers import KEYS, ROOT, differences, lines, linked, numbers, says, seeded, signs

from bench.records.identity import configuration
from bench.records.store import read_all
from methods.siamese_reptile import SiameseReptile
from methods.siamese_triplet import SiameseTriplet

pytestmark = pytest.mark.slow


def test_minings():
    says("leads in both intervals")
    found = {second: (signs(split, soft, second, "5w1s"), signs(split, soft, second, "5w5s"))
             for split, soft, second in differences("Triplet mining")}  # fmt: skip
    assert set(found.values()) == {((1, 1), (1, 1))}
    says("The next best uses all triplets of the batch with a margin, then come the semi-hard triplets")
    of_mining = {name.partition("mining=")[2].strip(")"): seeded("90-10", name) for name in found}
    ranked = sorted(of_mining, key=lambda mining: -of_mining[mining].value("5w1s"))
    assert ranked == ["all", "semihard", "random, steps=1067", "hard"]
    collapsed = of_mining["hard"].first
    says("training collapsed, as Schroff et al. (2015) warn: the kept step is {} of {:,}.",
         collapsed.kept_step, collapsed.timings.steps)  # fmt: skip
    paper = SiameseTriplet.presets["paper"]
    images = paper["classes"] * paper["images"]
    says("{} of cosines, and its batches have {:,} images.", paper["margin"], images)


def test_imprinting():
    records = linked("Imprinting", "harmonic, 1").values()
    classes = [one["metrics"][KEYS["harmonic, 1"]]["n"] for one in records]
    (draws,) = {
        own[KEYS["1 shot"]]["n"]
        for one in records
        for own in one["per_class"].values()
        if KEYS["1 shot"] in own
    }
    says("Here each of the {} other classes joins alone, with {} draws", classes[0], draws)
    says("with finetuning, only {} classes join", classes[1])

    def gain(heading: str) -> list[float]:
        """Of finetuning, with its interval."""
        (found,) = (own for what, own in numbers("Imprinting", heading).items() if "same 10 classes" in what)
        return found

    says("the harmonic mean gains too, over classes. At one shot it loses.")
    assert gain("harmonic, 1")[2] < 0 and all(gain(f"harmonic, {n}")[1] > 0 for n in (5, 10, 20))
    says("From five shots on, a little finetuning gains more on the new class than it costs the old ones")
    assert all(gain(f"{n} shots")[0] > -gain(f"after {n}")[0] for n in (5, 10, 20))
    says("even over 60 classes the intervals are wider than the source's")
    for own in (numbers("Imprinting", heading) for heading in ("1 shot", "5 shots", "10 shots", "20 shots")):
        assert own["imprinted"][1] > own["as published, ResNet-18 from ImageNet"][1]


def test_hallucination_and_mirror():
    says("no interval of the difference to `protonet` from scratch excludes 0")
    for one in differences("Hallucination"):
        settings = [name for name in ("5w1s", "5w5s", "5w10s") if name in seeded(*one[:2]).first.episodes]
        assert {signs(*one, setting) for setting in settings} == {(0, 0)}
    steps = {one["timings"]["steps"] for one in linked("Hallucination", "5w1s").values()}
    now = seeded("cifar-fs", "protonet_hallucination (quick, from scratch)").first.timings.steps
    says("have one seed, {:,} training steps instead of {:,}, and come from older code on a CPU", *steps, now)
    own = [one["timings"]["steps"] for one in linked("Mirror", "5w1s").values()]
    says("with {:,} steps instead of 3,200 and {:,} instead of {:,}", *own, now)


def test_siamese_triplets_and_the_source_s_models():
    *standard, quick, source = (
        {heading: float(row[heading].split(" ")[0]) for heading in row if heading in KEYS}
        for row in lines("Siamese triplets", "novel AUC")
    )
    says("in every balanced measure in `standard`; in `quick` it is above in every measure on novel classes")
    assert standard and all(own[one] > source[one] for own in standard for one in source)
    intervals = seeded("90-10", "siamese_triplet (quick, from scratch, mining=soft)").intervals
    leads = {one: 100 * intervals[KEYS[one]].value - source[one] for one in quick}
    assert {one for one, lead in leads.items() if lead > 0} == {one for one in quick if "base" not in one}
    says("The novel pairs, their AUC and the triplets of `quick` are above the source by less than their")
    for one in ("novel pairs", "novel AUC", "novel triplets"):
        assert leads[one] < 100 * intervals[KEYS[one]].half_width
    says("On the base classes `quick` is below.")


def test_siamese_reptile_and_its_source():
    names = ("base triplets", "base pairs", "novel triplets", "novel pairs")
    columns = [numbers("Reptile", name) for name in names]
    first, five, ten, triplets, source = (
        [own[what][-1] if what.startswith("the source") else own[what][0] for own in columns]
        for what in (
            "conv4, quick",
            "conv4, 5,400 meta-steps",
            "conv4, 10,000 meta-steps",
            "siamese_triplet, conv4, quick, three seeds",
            "the source, ResNet-56",
        )
    )
    says("conv4 is above the source on the base classes, in pairs by less than its interval.")
    assert five[0] > source[0] and 0 < five[1] - source[1] < columns[1]["conv4, 5,400 meta-steps"][1]
    says("With the source's 10,000 meta-steps it is further above.")
    assert ten[0] > five[0] and ten[1] > five[1]
    says("On novel classes it stays below the source")
    assert all(own[2] < source[2] and own[3] < source[3] for own in (five, ten))
    says("our `quick` model is above it in all four numbers")
    tested = [own["conv4, quick, tested as the source"][0] for own in columns]
    assert all(ours > theirs for ours, theirs in zip(tested, source, strict=True))
    metrics = linked("Reptile", "novel pairs")["conv4, quick, tested as the source"]["metrics"]
    best = 100 * metrics["novel/pair_accuracy_oracle"]["value"]
    says("best for the tested pairs its novel pairs would be {:.1f}% right", best)
    original = {key: own for key, own in SiameseReptile.presets["original"].items() if key != "backbone"}
    images = (images_of(steps=10_000) / 1e6, images_of(**original) / 1e6)
    says("10,000 of them see {:.2f} million images, those of the source {:.1f} million", *images)
    leads = sorted(a - b for a, b in zip(triplets, first, strict=True))
    says("is better than the first row by {:.0f} to {:.0f} points after the", leads[0], leads[-1])


def images_of(**changes: object) -> int:
    hp = SiameseReptile.Hyperparameters(**changes)
    assert hp.steps == 10_000
    return hp.steps * hp.tasks * hp.inner_steps * 3 * hp.triplets


def test_floors():
    records, _ = read_all(ROOT / "results")
    for row in lines("Floors", "floor"):
        [named] = [one for one in records if one.run_id in row["record"]]
        same = configuration(named, known_split=False)
        alike = [one for one in records if configuration(one, known_split=False) == same]
        values = [100 * one.metrics[KEYS[row["measure"]]].value for one in alike]
        assert values and min(values) >= float(row["floor"])
    of_protonet = {
        row["measure"]: row["floor"] for row in lines("Floors", "floor") if "protonet" in row["what"]
    }
    floor = of_protonet["5w5s"]
    rows_of_quick = {plain(row["row"]): row for row in lines("1. ", "cifar-fs 5w5s")}
    quick = rows_of_quick["protonet (quick, from scratch)"]["cifar-fs 5w5s"]
    says("stays below the literature's {} at five shots: {}.", floor, quick)
    assert float(quick.split(" ")[0]) < float(floor)

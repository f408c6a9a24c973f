"""The sentences with numbers of docs/findings.md say what the records say, except those of its section 5."""

from itertools import product
from statistics import stdev

import pytest
from markdown_reader import plain
from recorded_numbers import (
    KEYS,
    SPLITS,
    differences,
    highest,
    lines,
    linked,
    numbers,
    of_name,
    points,
    says,
    seeded,
    signs,
    table,
)

from bench.records.identity import name_of
from bench.records.store import Record
from bench.records.tracks import cost, images_seen, keeps_pretrained, on_gpu, pretraining_share
from bench.reporting.compare import compare
from bench.statistics import ENOUGH_SEEDS

pytestmark = pytest.mark.slow
MEANS, EASY, IMPRINTED = "nearest_centroid (quick)", "easy (quick)", "imprinted (quick)"
TRIPLETS, PROTO = "siamese_triplet (quick, pretrained, mining=soft)", "protonet (quick, from scratch)"
PAIRS, ANIL = "pair_classifier (quick, from scratch)", "anil (quick, pretrained, test_steps=10)"
THREE = [f"{name} (quick, pretrained)" for name in ("matching", "protonet_hallucination", "pair_classifier")]
MAIN, NEAR = ("90-10", "cifar-fs", "fc100"), ("90-10", "cifar-fs")
SCRATCH = [
    "maml (quick, from scratch, test_steps=10)",
    "anil (quick, from scratch, test_steps=10)",
    "mtl (quick, from scratch)",
]
META = ("anil", "maml", "mtl", "reptile")
ORDERS = {
    "Its lead over class means excludes 0 over episodes and seeds, but not over classes.": (
        ("90-10",), TRIPLETS, MEANS, ("5w1s",), (1, 0),
    ),
    "Its lead excludes 0 over classes, but not over seeds.": (
        ("cifar-fs",), IMPRINTED, MEANS, ("5w1s",), (0, 1),
    ),
    "On 90-10, `logistic_head` is worse, at one shot and at five.": (
        ("90-10",), "logistic_head (quick)", MEANS, ("5w1s", "5w5s"), (-1, -1),
    ),
    "Class means are better than `protonet` from scratch on all three splits, in both intervals.": (
        MAIN, MEANS, PROTO, ("5w5s",), (1, 1),
    ),
    "better than `siamese_triplet` after pretraining over episodes and seeds, but not over classes.": (
        ("90-10",), MEANS, TRIPLETS, ("5w5s",), (1, 0),
    ),
    "`easy` is better than class means on FC100": (("fc100",), EASY, MEANS, ("5w1s", "5w5s"), (1, 1)),
    "On 90-10 and CIFAR-FS it is far worse.": (NEAR, EASY, MEANS, ("5w1s", "5w5s"), (-1, -1)),
}  # fmt: skip
"""Sentence -> splits, first and second method, settings, and what `signs` must give in all of them."""


def behind(section: str) -> list[Record]:
    """The records of a section's rows."""
    names = {(split, name) for split, *pair in differences(section) for name in pair}
    for row in lines(section, "row"):
        texts = " ".join([*row, row["what"]])
        names |= {(split, plain(row["row"])) for split in MAIN if split in texts and "<" in row["row"]}
    return [record for split, name in sorted(names) for record in of_name(split, name)]


@pytest.mark.parametrize("sentence", ORDERS)
def test_which_is_better_over_episodes_and_over_classes(sentence):
    says(sentence)
    splits, first, second, settings, order = ORDERS[sentence]
    for split, setting in product(splits, settings):
        assert signs(split, first, second, setting) == order
        if "far" in sentence:
            assert abs(points(split, first, second, setting)) > 3


def test_budgets_and_machines():
    says("has seen the same number of images, pretraining included: {:,}, to 0.1%", 409_600)
    same_place = [one for section in ("1. ", "3. ", "4. ") for one in behind(section)]
    of_pretraining = behind("2. ")
    for record in same_place + of_pretraining:
        assert images_seen(record) == pytest.approx(409_600, rel=0.001)
    says("The rows of sections 1, 3 and 4 were trained on one GPU, by one commit")
    assert len({(one.environment.device, one.environment.git_commit) for one in same_place}) == 1
    assert all(map(on_gpu, same_place))
    says(
        "Both rows of the meta-learners, and the pretrained rows of `matching`, `protonet_hallucination` and"
    )
    on_cpu = {one.run_id for one in of_pretraining if not on_gpu(one)}
    assert on_cpu == {
        one.run_id
        for one in of_pretraining
        if one.method in META or f"{one.method} (quick, {one.hyperparameters['init']})" in THREE
    }
    says("three quarters of the images trained a classifier of the base classes")
    assert {round(pretraining_share(one), 3) for one in of_pretraining} == {0, 0.75}


def test_the_highest_rows():
    says("On 90-10, `siamese_triplet` after pretraining is highest.")
    says("On CIFAR-FS, `imprinted` is highest.")
    assert (highest("90-10 5w1s"), highest("cifar-fs 5w1s")) == (TRIPLETS, IMPRINTED)
    says("The highest row of each split is the same as in 5w1s.")
    assert all(highest(f"{split} all-way") == highest(f"{split} 5w1s") for split in MAIN)
    says("On 90-10 all rows of this table but `easy` overlap.")
    names = [plain(row["row"]) for row in lines("1. ", "90-10 pairs")]
    own = {name: seeded("90-10", name).intervals[KEYS["pairs"]] for name in names}
    assert own.pop(EASY).high < max(one.low for one in own.values()) < min(one.high for one in own.values())
    says("The splits have {}, {} and {} base classes", *(seeded(s, MEANS).first.classes.base for s in MAIN))


def test_what_pretraining_gains():
    says("At five shots pretraining helps in every row of the table, over episodes and retraining")
    says("over classes in all but two: `pair_classifier` on 90-10 and on FC100.")
    found = {one[:2]: signs(*one, "5w5s") for one in differences("2. ")}
    assert {over_episodes for over_episodes, _ in found.values()} == {1}
    but = {where for where, (_, over_classes) in found.items() if over_classes != 1}
    assert but == {(split, THREE[2]) for split in ("90-10", "fc100")}
    says("`anil`, `maml` and `mtl` gain more than any method that compares embeddings, on every split where")
    for split, setting in product(MAIN, ("5w1s", "5w5s")):
        gains = {one[1]: points(*one, setting) for one in differences("2. ") if one[0] == split}
        own = {name: gain for name, gain in gains.items() if name.startswith(META)}
        others = [gain for name, gain in gains.items() if name not in own]
        assert ANIL in own and min(own.values()) > max(others)


def test_kept_steps():
    says("training `siamese_triplet`, `protonet`, `matching`, `protonet_hallucination` and `anil` further")
    nothing = ("siamese_triplet", "protonet", "matching", "protonet_hallucination", "anil")
    own = [one for one in behind("2. ") if one.pretraining and one.split != "90-10" and one.method in nothing]
    assert own and all(map(keeps_pretrained, own))
    says("There `anil` and `mtl` kept the pretrained network.")
    assert all(map(keeps_pretrained, [*of_name("90-10", ANIL), *of_name("90-10", "mtl (quick, pretrained)")]))
    says("After pretraining it kept the pretrained network on all three splits.")
    assert all(keeps_pretrained(one) for split in MAIN for one in of_name(split, ANIL))
    says("On CIFAR-FS and FC100 its training kept a step before the last.")
    scratch = ANIL.replace("pretrained", "from scratch")
    assert all(0 < one.kept_step < one.timings.steps for s in MAIN[1:] for one in of_name(s, scratch))


def test_class_means_and_three_pretrained_methods():
    says("do not differ from class means in both intervals at one shot")
    assert not {signs("90-10", name, MEANS, "5w1s") for name in THREE} & {(1, 1), (-1, -1)}
    leads = sorted(points("90-10", MEANS, name, "5w5s") for name in THREE)
    says("class means are better by {:.1f} to {:.1f} points over episodes", leads[0], leads[-1])
    says("but over classes only than `matching`")
    assert [signs("90-10", MEANS, name, "5w5s") for name in THREE] == [(1, 1), (1, 0), (1, 0)]


def test_luck_and_unbalanced_pairs():
    says("Retraining changes a number by more than the interval of one run says.")
    says("Other novel classes change it far more.")
    for row in lines("3. ", "± seeds"):
        episodes, seeds, classes = (float(row[f"± {one}"]) for one in ("episodes", "seeds", "new classes"))
        assert episodes < seeds < classes / 3
    says("on 90-10 `easy` is above `pair_classifier` in unbalanced pairs and below it in balanced ones")
    easy, pairs = (seeded("90-10", name).intervals for name in (EASY, PAIRS))
    keys = [KEYS["unbalanced pairs"], KEYS["balanced pairs"]]
    assert [easy[key].value > pairs[key].value for key in keys] == [True, False]
    says("In each row of the table the unbalanced number varies more from seed to seed.")
    for row in (row for row in lines("4. ", "balanced pairs") if "<" in row["row"]):
        records = seeded(row["what"], plain(row["row"])).records
        unbalanced, balanced = (stdev(one.metrics[key].value for one in records) for key in keys)
        assert unbalanced > balanced


def test_costs():
    minutes = numbers("6. ", "minutes")
    adapting = ("maml", "reptile")
    others = [own for what, (own,) in minutes.items() if what not in adapting]
    says("costs about twice as much as one that embeds each image once")
    assert min(*(minutes[what][0] for what in adapting)) / max(others) == pytest.approx(2, abs=0.2)
    records = linked("6. ", "minutes")
    episodes = {what: one["episodes"]["5w1s"]["count"] for what, one in records.items()}
    says("although it is tested on a tenth of the episodes ({:,} of {:,})", *sorted(set(episodes.values())))
    assert {what for what, count in episodes.items() if count == 1000} == set(adapting)
    of_scratch = [of_name("cifar-fs", name) for name in SCRATCH]
    alone = [round(cost([one]).one_core / 60) for (one,) in of_scratch]
    says("From scratch, `maml` took {} minutes, `anil` {} and `mtl` {}.", *alone)
    (classifier,) = {round(one["pretraining"]["processor_s"] / 60) for one in records.values()}
    says("are of one commit and start from one classifier, whose {} minutes are included.", classifier)
    says("Only `maml` and `pair_classifier` moved away from the classifier")
    assert {what for what, one in records.items() if one["kept_step"]} == {"maml", "pair_classifier"}
    seconds = {what: own for what, (own,) in numbers("6. ", "seconds of the test, wall").items()}
    finetune = linked("6. ", "seconds, wall")["finetune"]
    says("each of its 10,000 episodes, which takes longer than the classifier did")
    assert finetune["timings"]["evaluate_s"] > finetune["pretraining"]["seconds"]
    longer = seconds["easy"] - seconds["nearest_centroid"]
    says("make its test {:.0f} seconds longer than that of class means", longer)


def test_pretrained_rows_that_are_said_to_share_a_network_share_it():
    """Seed by seed, on the splits with validation classes."""
    says("The pretrained `siamese_triplet` and `protonet` are one network there")
    names = (TRIPLETS, "protonet (quick, pretrained)")
    for split in ("cifar-fs", "fc100"):
        triplet, proto = ({one.seed: one for one in seeded(split, name).records} for name in names)
        assert {one.kept_step for one in (*triplet.values(), *proto.values())} == {0}
        assert len(triplet.keys() & proto.keys()) >= 2
        for seed in triplet.keys() & proto.keys():
            assert triplet[seed].model == proto[seed].model
            assert triplet[seed].metrics["fewshot/5w1s"] == proto[seed].metrics["fewshot/5w1s"]


@pytest.mark.parametrize("split", MAIN)
def test_no_other_network_but_easy_s_on_fc100_is_better_than_class_means(split):
    """In both intervals, among the rows with three seeds; of the same networks only two are, at one shot."""
    says("none is better in both intervals, except `easy` on FC100")
    says("At one shot on FC100 both are better than class means, in both intervals.")
    quick = {name_of(one) for one in table(split).records if one.preset == "quick"} - {MEANS}
    names = sorted(name for name in quick if len(seeded(split, name).records) >= ENOUGH_SEEDS)
    assert len(names) >= 10
    for setting in ("5w1s", "5w5s"):
        found = compare([MEANS, *names], table(split), setting)
        both = zip(found.comparisons, found.new_classes, strict=True)
        better = {
            one.second for one, new in both if one.first == MEANS and max(one.difference.high, new.high) < 0
        }
        of_same_networks = {"finetune (quick)", "logistic_head (quick)"} & better
        assert better - of_same_networks == ({EASY} if split == "fc100" else set())
        assert len(of_same_networks) == (2 if (split, setting) == ("fc100", "5w1s") else 0)


@pytest.mark.parametrize("split", MAIN)
def test_other_answers_of_the_networks_of_class_means(split):
    says("so they are compared network by network, and small differences show. All are less than a point.")
    means = {one.seed: one for one in seeded(split, MEANS).records}
    for name in ("logistic_head (quick)", "finetune (quick)"):
        for one in seeded(split, name).records:
            assert one.pretraining.model == means[one.seed].pretraining.model
            for key in ("fewshot/5w1s", "fewshot/5w5s"):
                difference = one.metrics[key].value - means[one.seed].metrics[key].value
                assert abs(difference) < 0.01
                assert difference > 0 or (split, key) != ("fc100", "fewshot/5w1s")


def test_no_record_reaches_the_constant_answer():
    says("No record reaches the constant answer")
    key = KEYS["unbalanced pairs"]
    records = [record for split in SPLITS for record in table(split).records if key in record.metrics]
    assert records
    assert all(record.metrics[key].value < record.constant_answer[key] for record in records)

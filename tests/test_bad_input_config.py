"""Configuration files that no run can be made of: one line with file, key and what is allowed."""

import pytest
from command_line import complaint, files_in

from bench.config.yaml_files import read_yaml

PROTONET = "method: protonet\n"
MAP = "--config run.yaml: must be a map from names to values"
METHOD = "must be the name of one method"


def bomb(key: str) -> str:
    """A few hundred bytes that are ten million values, because each list holds the one before ten times."""
    text = "&b0 [x, x, x, x, x, x, x, x, x, x]"
    for level in range(1, 7):
        text = f"&b{level} [{text}{f', *b{level - 1}' * 9}]"
    return f"{key}: {text}\n"


CASES = {
    # Not YAML, or not one map
    "empty": ("", MAP),
    "only a comment": ("# nothing\n", MAP),
    "text": ("protonet", MAP),
    "a list": ("- method: protonet\n", MAP),
    "a number for a key": ("1: 2\n", MAP),
    "null for a key": ("~: 3\n", MAP),
    "a list for a key": ("[1, 2]: 3\n", "--config run.yaml: is not YAML in line 1: found unhashable key"),
    "two documents": (f"{PROTONET}---\nmethod: mtl\n", "--config run.yaml: is not YAML in line 2"),
    "a key twice": ("method: protonet\nmethod: mtl\n", "--config run.yaml: is not YAML in line 2: duplicate"),
    "an inner key twice": (
        f"{PROTONET}hyperparameters:\n  scale: 1\n  scale: 2\n",
        "--config run.yaml: is not YAML in line 4: duplicate key scale",
    ),
    "a tab": ("method:\tprotonet\n\tseed: 1\n", "--config run.yaml: is not YAML in line 1"),
    "an unknown alias": ("method: *nope\n", "--config run.yaml: is not YAML in line 1: found undefined alia"),
    "an unknown tag": ("method: !foo bar\n", "--config run.yaml: is not YAML in line 1: could not determine"),
    "a merge of a list": ("<<: [1]\n", "--config run.yaml: is not YAML in line 1"),
    "a bell": ("method: a\x07b\n", "--config run.yaml: is not YAML"),
    "a NUL": (b"method: protonet\0\n", "--config run.yaml: is not YAML"),
    "UTF-16": ("method: protonet\n".encode("utf-16"), "--config run.yaml: is not UTF-8 text"),
    "Latin 1": (b"method: prot\xf6net\n", "--config run.yaml: is not UTF-8 text"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "--config run.yaml: is not UTF-8 text"),
    "an archive": (b"\x1f\x8b\x08\0\0\0", "--config run.yaml: is not UTF-8 text"),
    "a number of 5000 digits": (f"{PROTONET}seed: {'9' * 5000}\n", "--config run.yaml: is not YAML"),
    "a key of 100,000 letters": (f"{'a' * 100_000}: 1\n", "--config run.yaml: is not YAML in line 1"),
    "600 brackets": ("[" * 600, "--config run.yaml: is not YAML"),
    # Values of the wrong type or beyond what is allowed
    "no method": ("seed: 1\n", "--method: is missing; allowed: anil, "),
    "method null": ("method: null\n", "run.yaml: method: is missing; allowed: anil, "),
    "method a number": ("method: 1.5\n", f"run.yaml: method 1.5: {METHOD}"),
    "method a map": ("method: {protonet: 1}\n", f"run.yaml: method {{'protonet': 1}}: {METHOD}"),
    "method a list of lists": ("method: [[protonet]]\n", f"run.yaml: method ['protonet']: {METHOD}"),
    "method bytes": ("method: !!binary aGVsbG8=\n", f"run.yaml: method b'hello': {METHOD}"),
    "method with a NUL": ('method: "a\\0b.py"\n', "run.yaml: method a\\x00b.py: no such file"),
    "method a surrogate": ('method: "\\ud800"\n', "run.yaml: method \\ud800: allowed: anil, "),
    "method in a list": ("method: [protonet, mlt]\n", "run.yaml: method mlt: did you mean mtl?"),
    "no methods": ("method: []\n", "run.yaml: method []: must name at least one"),
    "seed true": (f"{PROTONET}seed: true\n", "run.yaml: seed True: must be a whole number"),
    "seed infinite": (f"{PROTONET}seed: .inf\n", "run.yaml: seed inf: must be a whole number"),
    "seed 1e999": (f"{PROTONET}seed: 1e999\n", "run.yaml: seed inf: must be a whole number"),
    "seed too large": (f"{PROTONET}seed: 4294967296\n", "run.yaml: seed 4294967296: must be at most"),
    "seed a list of lists": (f"{PROTONET}seed: [[1]]\n", "run.yaml: seed [1]: must be a whole number"),
    "no seeds": (f"{PROTONET}seed: []\n", "run.yaml: seed []: must name at least one"),
    "split a date": (f"{PROTONET}split: 2020-01-01\n", "run.yaml: split 2020-01-01: did you mean 90-10?"),
    "split a map": (f"{PROTONET}split: {{90: 10}}\n", "run.yaml: split {90: 10}: must be text"),
    "split misspelt": (f"{PROTONET}split: fc-100\n", "run.yaml: split fc-100: did you mean fc100?"),
    "split with a NUL": (f'{PROTONET}split: "a\\0.csv"\n', "run.yaml: split a\\x00.csv: no such file"),
    "dataset a list": (f"{PROTONET}dataset: [mnist]\n", "run.yaml: dataset ['mnist']: must be text"),
    "dataset misspelt": (f"{PROTONET}dataset: cifar-100\n", "run.yaml: dataset cifar-100: did you"),
    "preset a map": (f"{PROTONET}preset: {{}}\n", "run.yaml: preset {}: allowed: smoke, quick"),
    "backbone a list": (f"{PROTONET}backbone: [conv4]\n", "run.yaml: backbone ['conv4']: did you mean conv4"),
    "precision a number": (f"{PROTONET}precision: 16\n", "run.yaml: precision 16: did you mean bf16?"),
    "train in words": (f"{PROTONET}train: yes please\n", "run.yaml: train yes please: must be true or false"),
    "train a number": (f"{PROTONET}train: 0\n", "run.yaml: train 0: must be true or false"),
    "way of 1": (f"{PROTONET}way: 1\nshot: 1\n", "run.yaml: way 1: must be at least 2"),
    "way a fraction": (f"{PROTONET}way: 1e1\nshot: 1\n", "run.yaml: way 10.0: must be a whole number"),
    "way in octal": (f"{PROTONET}way: 0o1\nshot: 1\n", "run.yaml: way 1: must be at least 2"),
    "way in base 60": (f"{PROTONET}way: 1:30\nshot: 1\n", "run.yaml: way 1:30: must be a whole number"),
    "shot as text": (f"{PROTONET}way: 5\nshot: '1'\n", "run.yaml: shot 1: must be a whole number"),
    "episodes without way": (f"{PROTONET}episodes: 50\n", "--way: is missing; an additional setting"),
    "image size a fraction": (f"{PROTONET}image_size: 8.5\n", "run.yaml: image_size 8.5: must be a whole"),
    # Keys
    "a key misspelt": (f"{PROTONET}spilt: 90-10\n", "run.yaml: spilt: no such key; did you mean split?"),
    "a key with an accent": (f"{PROTONET}splít: 90-10\n", "run.yaml: splít: no such key; did you mean split"),
    "an escape in a key": (f'{PROTONET}"\\e[2J": 1\n', "run.yaml: \\x1b[2J: no such key; allowed: method"),
    "a flag that is none of a run's": (f"{PROTONET}device: cpu\n", "run.yaml: device: no such key; allowed:"),
    "what the bench fills in": (f"{PROTONET}overrides: {{}}\n", "run.yaml: overrides: no such key; did you"),
    # Hyperparameters
    "a list of them": (f"{PROTONET}hyperparameters: [lr]\n", "run.yaml: hyperparameters ['lr']: must be a m"),
    "text for them": (f"{PROTONET}hyperparameters: lr=1\n", "run.yaml: hyperparameters lr=1: must be a map"),
    "one that is no name": (f"{PROTONET}hyperparameters: {{1: 2}}\n", "run.yaml: hyperparameters.1 2: proto"),
    "one misspelt": (
        f"{PROTONET}hyperparameters: {{learning_rat: 1}}\n",
        "run.yaml: hyperparameters.learning_rat 1: protonet has no such hyperparameter; did you mean",
    ),
    "one null": (f"{PROTONET}hyperparameters:\n  scale:\n", "run.yaml: hyperparameters.scale None: must be"),
    "one NaN": (f"{PROTONET}hyperparameters: {{scale: .nan}}\n", "run.yaml: hyperparameters.scale nan: must"),
    "one of 400 digits": (
        f"{PROTONET}hyperparameters: {{scale: {'9' * 400}}}\n",
        "run.yaml: hyperparameters.scale 9999999999",
    ),
    "one in 300 maps": (
        f"{PROTONET}hyperparameters: {'{a: ' * 300}1{'}' * 300}\n",
        "run.yaml: hyperparameters.a {'a': {'a': {",
    ),
    "one in itself": (
        f"{PROTONET}hyperparameters: &a {{steps: *a}}\n",
        "run.yaml: hyperparameters.steps {'steps': {",
    ),
    # Several runs
    "no runs": ("runs: []\n", "run.yaml: runs []: must be a list of maps"),
    "runs null": ("runs:\n", "run.yaml: runs None: must be a list of maps"),
    "runs a name": ("runs: protonet\n", "run.yaml: runs protonet: must be a list of maps"),
    "runs a map": (f"runs: {{{PROTONET.strip()}}}\n", "run.yaml: runs {'method': 'protonet'}: must be a lis"),
    "a run a number": ("runs: [1]\n", "run.yaml: run 1 1: must be a map"),
    "a run without a method": ("runs: [{}]\n", "run.yaml: run 1: method: is missing; allowed: anil, "),
    "runs in a run": ("runs: [{runs: []}]\n", "run.yaml: run 1: runs: no such key; allowed: method"),
    "runs in themselves": ("runs: &r [*r]\n", "run.yaml: run 1 [[["),
    "the second run": (
        "runs: [{method: protonet}, {method: protonet, seed: [0, x]}]\n",
        "run.yaml: run 2: seed x: must be a whole number",
    ),
    # Ten million values in a few lines
    **{
        f"a bomb for {key}": (f"{'' if key == 'method' else PROTONET}{bomb(key)}", f"run.yaml: {key} [[[[")
        for key in ("method", "split", "seed", "preset", "backbone", "weights", "train", "precision")
    },
    "a bomb for runs": (bomb("runs"), "run.yaml: run 1 [[[["),
    "a bomb for hyperparameters": (PROTONET + bomb("hyperparameters"), "run.yaml: hyperparameters [[[["),
}  # fmt: skip


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_an_invalid_configuration_file(workspace, name):
    content, expected = CASES[name]
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    (workspace / "run.yaml").write_bytes(data)
    said = complaint("run", "--config", "run.yaml")
    assert said.startswith(expected) and len(said) < 1500


def test_a_merged_part_of_a_file_does_not_duplicate_keys(workspace):
    (workspace / "run.yaml").write_text(
        "runs:\n- &first {method: mtl, seed: 1}\n- &second {<<: *first, seed: 2}\n- {<<: *second, seed: 3}"
    )
    assert [run["seed"] for run in read_yaml(workspace / "run.yaml")["runs"]] == [1, 2, 3]


def test_python_in_a_file_does_not_run(workspace):
    for text in (
        "method: !!python/object/apply:os.mkdir [made]\n",
        "method: !!python/object/new:os.mkdir [made]\n",
        "method: !!python/name:os.mkdir\n",
        "? !!python/object/apply:os.mkdir [made]\n: 1\n",
    ):
        (workspace / "run.yaml").write_text(text)
        assert complaint("run", "--config", "run.yaml").startswith("--config run.yaml: is not YAML in line 1")
    assert list(files_in(workspace)) == [str(workspace / "run.yaml")]

from bench.common.errors import UserError, one_line, one_of


def test_the_message_names_flag_value_and_what_is_allowed():
    assert str(UserError("--split", "90-1", "two percentages")) == "--split 90-1: two percentages"
    assert str(UserError("--way", "", "is missing")) == "--way: is missing"
    assert str(UserError("--steps", 0, "must be at least 1")) == "--steps 0: must be at least 1"


def test_the_message_is_one_printable_line_whatever_was_given():
    error = UserError("--set", "a\nb\x1b[31m\u202e\udcff", "no\r\nline breaks")
    assert str(error) == "--set a b\\x1b[31m\\u202e\\udcff: no line breaks"


def test_a_long_value_is_cut_and_the_rule_is_not():
    text = str(UserError("--set", "x" * 10_000, "y" * 500))
    assert text == f"--set {'x' * 200}...: {'y' * 500}"


def test_one_line_keeps_letters_of_every_alphabet():
    assert one_line("größe 大きさ") == "größe 大きさ"


def test_the_nearest_name_comes_first():
    names = ["methods", "splits", "datasets"]
    assert one_of("split", names) == "did you mean splits? allowed: methods, splits, datasets"
    assert one_of("SPLITS", names).startswith("did you mean splits?")
    assert one_of("zzz", names) == "allowed: methods, splits, datasets"


def test_a_hundred_names_are_not_all_listed():
    names = [f"class{number:03}" for number in range(100)]
    text = one_of("clas042", names)
    assert text.startswith("did you mean class042? allowed: class000, ")
    assert text.endswith("class039, ...")

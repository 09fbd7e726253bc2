"""Lesson 11: the error path that is to be leak-free, and the ideas behind those that are not."""

import inspect
import re

import pytest

from kmemkit import strings
from kmemkit.lessons import leak_unwind
from kmemkit.lessons._check import Outcome
from kmemkit.strings import keys
from kmemkit.views._leak_driver import Driver

SEEDS = range(12)


def right(seed):
    return "\n".join(Driver.of(seed).right.code)


def missed(code, seed):
    sheet = leak_unwind.check(code, seed)
    return {verdict.idea for _, verdict in sheet.rows if verdict.outcome is Outcome.WRONG}


def named(*ideas):
    return {strings.text(f"lesson.leak.idea_name.{idea}") for idea in ideas}


def test_every_idea_of_the_table_is_used_and_has_a_name():
    source = inspect.getsource(leak_unwind)
    ideas = {key.rpartition(".")[2] for key in keys() if ".leak.idea." in key}
    assert {idea for idea in ideas if f'"{idea}"' in source} == ideas
    for idea in ideas:
        assert "“" in strings.text(f"lesson.leak.idea_name.{idea}")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_code_is_right_and_the_given_one_is_not(seed):
    assert leak_unwind.check(right(seed), seed).right
    code = leak_unwind.problem(seed).lines[3:]
    sheet = leak_unwind.check(code, seed)
    assert sheet.count(Outcome.WRONG) > 0
    assert sheet.count(Outcome.OPEN) == 0
    assert str(sheet) == str(leak_unwind.check(leak_unwind.gym(seed), seed))


def test_the_gym_is_an_answer_once_it_is_repaired():
    gym = leak_unwind.gym(2)
    gym.act("jump", step=3, value="goto err_ring;")
    gym.act("free", step=0, value="free_pages(dev->dma, 2);")
    assert leak_unwind.check(gym, 2).right
    assert leak_unwind.check(f"\n{gym.code}\n", 2).right


@pytest.mark.parametrize("seed", [7, 12, 19, 27, 32, 34])
def test_the_error_path_behind_kvzalloc_is_tried_with_vmalloc_failing_too(seed):
    code, broken = right(seed), "\n".join(Driver.of(seed).broken(seed).code)
    jump = re.compile(r"    if \(!dev->log\)(?: \{.*?\n    \}|\n.*?;)", re.DOTALL)
    one_mistake = jump.sub(jump.search(broken)[0], code)
    assert one_mistake != code
    sheet = leak_unwind.check(one_mistake, seed)
    labels = [label for label, one in sheet.rows if one.outcome is Outcome.WRONG]
    assert len(labels) == 1
    assert labels[0].endswith("b.")
    assert "and so does vmalloc(), to which it falls back" in " ".join(str(sheet).split())


def test_labels_may_have_other_names_and_releases_other_functions():
    code = right(2).replace("err_", "out_").replace("vfree(", "kvfree(")
    assert leak_unwind.check(code, 2).right


@pytest.mark.parametrize(
    ("seed", "old", "new", "idea"),
    [
        (2, "goto err_ring;", "goto err_fw;", "any_label"),
        (2, "goto err_ring;", "return -ENOMEM;", "kernel_cleans"),
        (2, "        return -ENOMEM;", "        goto err_fw;", "null_is_fine"),
        (2, "err_ring:\n    kfree(dev->ring);\n", "err_ring:\n", "free_is_deep"),
        (2, "    vfree(dev->fw);\nerr_dev:\n    kfree(dev);",
         "    kfree(dev);\nerr_dev:\n    vfree(dev->fw);", "any_order"),
        (2, "vfree(dev->fw)", "kfree(dev->fw)", "any_function"),
        (2, "free_pages(dev->dma, 2)", "free_pages(dev->dma, 0)", "size_is_known"),
        (2, "    kfree(dev->ring);\n", "    kfree(dev->ring);\n    kfree(dev->ring);\n",
         "better_twice"),
    ],
)  # fmt: skip
def test_wrong_code_names_the_wrong_idea(seed, old, new, idea):
    assert old in right(seed)
    assert named(idea) <= missed(right(seed).replace(old, new), seed)


def test_who_does_not_look_for_null_is_told_so():
    code = re.sub(r"    if \(!dev->\w+\)\n        goto \w+;\n", "", right(7))
    sheet = leak_unwind.check(code, 7)
    labels = [label for label, one in sheet.rows if one.outcome is Outcome.WRONG]
    assert labels == ["2.", "3b.", "4.", "5."]
    assert missed(code, 7) == named("never_fails")
    assert "a pointer is NULL that the driver will use" in " ".join(str(sheet).split())


def test_a_probe_that_always_gives_up_is_told_so():
    code = right(7).replace("    pci_set_drvdata(pdev, dev);\n    return 0;\n", "")
    code = code.replace("err_cmd:\n", "    kfree(dev->ring);\nerr_cmd:\n")
    sheet = leak_unwind.check(code, 7)
    assert [label for label, one in sheet.rows if one.outcome is Outcome.WRONG] == ["3.", "6."]
    assert missed(code, 7) == named("labels_stop")
    assert "Nothing is missing, and probe() gives up" in " ".join(str(sheet).split())


def test_running_on_into_the_labels_is_named():
    code = right(2).replace("    return 0;\n", "").replace("return -ENOMEM;\n}", "return 0;\n}")
    assert named("labels_stop") <= missed(code, 2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (3, "not a value of type int"),
        ("free everything", "line 1 is not understood"),
        (right(3), "leave the acquisitions as they are"),
    ],
)
def test_an_answer_of_another_form_is_told_so(answer, words):
    sheet = leak_unwind.check(answer, 2)
    assert sheet.count(Outcome.OPEN) == 1
    assert words in str(sheet)


def test_no_answer_and_an_unknown_one():
    assert leak_unwind.check(None, 2).count(Outcome.OPEN) == 1
    assert leak_unwind.check("?", 2).count(Outcome.UNKNOWN) == 1

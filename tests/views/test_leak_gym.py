"""LeakGym without a browser: the small C, the runs, what leaks, the changes, the predictions."""

import pytest

from kmemkit import Kernel
from kmemkit.strings import keys, text
from kmemkit.views import LeakGym
from kmemkit.views._leak_driver import Driver
from kmemkit.views._leak_program import BadCode
from kmemkit.views._leak_quiz import TROUBLE
from kmemkit.views._leak_run import play, play_all

pytestmark = pytest.mark.usefixtures("sends_at_once")

SEEDS = range(12)
#: cam_probe: dev, fw (vmalloc), ring (kcalloc), dma (pages, order 2), cmd (kmem_cache)
FLAT = 2
#: nic_probe: dev, ring (kzalloc), ring->desc (kcalloc), dma (pages, order 1), fw (vmalloc)
NESTED = 5
TABLE = """\
Which allocation fails
  N = 1: dev = kzalloc()                      yes
  N = 2: dev->fw = vmalloc()                  yes
  N = 3: dev->fw = vmalloc()                  yes
  N = 4: dev->ring = kcalloc()                yes
  N = 5: dev->dma = __get_free_pages()        no: 2,048 bytes leak
  N = 6: dev->cmd = kmem_cache_alloc()        no: 12,288 bytes leak
  N = 7: nothing                              yes
  leak-free: 5 of 7
  One call can make several allocations: vmalloc() asks for its descriptor, then for an array of \
its pages.

N = 5: dev->dma = __get_free_pages()
    5  dev = 0xffff8880004003c0, 192 bytes
    6  dev is not NULL
    8  dev->fw = 0xffffc90000000000, 32,768 bytes
    9  dev->fw is not NULL
   11  dev->ring = 0xffff888000410800, 2,048 bytes
   12  dev->ring is not NULL
   14  __get_free_pages() fails: dev->dma = NULL
   15  dev->dma is NULL
   16  jump to err_fw
   29  dev->fw is freed: 32,768 bytes
   31  dev is freed: 192 bytes
>  32  returns -ENOMEM; the variable dev is gone

step 11 of 11, line 32: returns -ENOMEM; the variable dev is gone
  dev: freed; its pointer is gone
  dev->fw: freed; its pointer is gone
  dev->ring: LEAKED, 2,048 bytes; its pointer is gone
  dev->dma: NULL, it failed
  dev->cmd: not acquired

probe() returns -ENOMEM. Leaks: dev->ring (2,048 bytes).
What kmemleak finds
  unreferenced object 0xffff888000410800 (size 2048):"""


@pytest.fixture
def kernel():
    return Kernel(ram="16M")


def runs_of(kernel, code, seed=FLAT):
    driver = Driver.of(seed)
    lines = tuple(code.splitlines()) if isinstance(code, str) else code
    return play_all(kernel, driver, driver.parse(lines))


def right(seed=FLAT):
    return "\n".join(Driver.of(seed).right.code)


def changed(old, new, seed=FLAT):
    code = right(seed)
    assert code.count(old) == 1
    return code.replace(old, new)


def kinds(run):
    return [finding.kind for finding in run.findings]


def leaks(run):
    return {one.path: one.size for one in run.leaks}


# -- drivers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_error_path_is_leak_free_for_every_n(kernel, seed):
    runs = runs_of(kernel, right(seed), seed)
    assert all(run.clean for run in runs)
    assert [run.n for run in runs] == list(range(1, len(runs) + 1))
    assert [run.injected for run in runs] == [True] * (len(runs) - 1) + [False]
    assert runs[-1].returned == "0"
    assert {run.failed for run in runs[:-1]} == {one.path for one in Driver.of(seed).resources}


@pytest.mark.parametrize("seed", range(40))
def test_the_mistakes_of_a_seed_show(kernel, seed):
    assert not all(run.clean for run in runs_of(kernel, Driver.of(seed).broken(seed).code, seed))


def test_a_seed_gives_the_same_driver_and_the_same_mistakes():
    assert Driver.of(7) == Driver.of(7)
    assert Driver.of(7).broken(7).code == Driver.of(7).broken(7).code
    assert len({"\n".join(Driver.of(seed).right.code) for seed in SEEDS}) > 8


# -- runs -----------------------------------------------------------------------------------------


def test_a_jump_too_far_leaks_what_it_skips(kernel):
    run = runs_of(kernel, changed("goto err_ring;", "goto err_fw;"))[4]
    assert leaks(run) == {"dev->ring": 2048}
    assert run.findings == ()
    assert len(run.reports) == 1


def test_a_plain_return_leaks_everything(kernel):
    run = runs_of(kernel, changed("goto err_dma;", "return -ENOMEM;"))[5]
    assert leaks(run) == {"dev": 192, "dev->fw": 32768, "dev->ring": 2048, "dev->dma": 16384}
    assert len(run.reports) == 3  # kmemleak does not know pages


def test_who_frees_the_structure_first_loses_what_it_holds(kernel):
    code = right().replace("    free_pages(dev->dma, 2);\nerr_ring:\n    kfree(dev->ring);\n", "")
    run = runs_of(kernel, code.replace("goto err_ring;", "goto err_dma;"))[5]
    assert leaks(run) == {"dev->ring": 2048, "dev->dma": 16384}
    dying = next(shot for shot in run.shots if shot.told == "dev is freed: 192 bytes")
    assert [one.state for one in dying.things if one.path == "dev->ring"] == ["leaked"]


def test_a_plain_kernel_is_silent_on_a_use_after_free_and_kasan_is_not(kernel):
    code = changed("err_fw:\n    vfree(dev->fw);\nerr_dev:\n    kfree(dev);",
                   "err_dev:\n    kfree(dev);\nerr_fw:\n    vfree(dev->fw);")  # fmt: skip
    plain = runs_of(kernel, code)[4]
    assert kinds(plain) == ["after_free"]
    assert plain.log == []
    assert not plain.leaks
    kasan = runs_of(Kernel(ram="16M", debug_kernel=True), code)[4]
    assert kinds(kasan) == ["after_free"]
    assert kasan.log[1].startswith("BUG: KASAN: slab-use-after-free in ")


def test_kfree_of_vmalloc_memory_kills_the_task_and_all_it_held_leaks(kernel):
    run = runs_of(kernel, changed("vfree(dev->fw)", "kfree(dev->fw)"))[3]
    assert kinds(run) == ["wrong_function"]
    assert run.ended.startswith("BUG: unable to handle page fault for address: ")
    assert leaks(run) == {"dev": 192, "dev->fw": 32768}
    assert run.returned == ""


def test_a_wrong_order_gives_back_only_a_part(kernel):
    run = runs_of(kernel, changed("free_pages(dev->dma, 2)", "free_pages(dev->dma, 0)"))[5]
    assert kinds(run) == ["wrong_order"]
    assert leaks(run) == {"dev->dma": 3 * 4096}
    assert run.log == []


def test_what_is_freed_twice_in_a_row_ends_in_the_kernels_own_check(kernel):
    code = changed("goto err_ring;", "{\n        kfree(dev->ring);\n        goto err_ring;\n    }")
    run = runs_of(kernel, code.replace("if (!dev->dma)\n        {", "if (!dev->dma) {"))[4]
    assert kinds(run) == ["twice"]
    assert run.ended == "kernel BUG at mm/slub.c:550!"


def test_jumping_too_near_is_harmless_only_where_null_is(kernel):
    harmless = runs_of(kernel, changed("goto err_fw;", "goto err_ring;"))
    assert all(run.clean for run in harmless)
    code = changed("        return -ENOMEM;", "        goto err_dev;")
    assert runs_of(kernel, code)[0].clean
    dead = runs_of(kernel, changed("        return -ENOMEM;", "        goto err_fw;"))[0]
    assert kinds(dead) == ["null"]
    assert dead.ended.startswith("BUG: kernel NULL pointer dereference, address: ")


def test_null_is_not_for_kmem_cache_free(kernel):
    code = changed("err_dma:", "err_cmd:\n    kmem_cache_free(cmd_cache, dev->cmd);\nerr_dma:")
    run = runs_of(kernel, code.replace("goto err_dma;", "goto err_cmd;"))[5]
    assert kinds(run) == ["cache_null"]
    assert run.ended


def test_kfree_frees_a_cache_object_and_kvfree_vmalloc_memory(kernel):
    code = right(0)
    assert "kmem_cache_free(cmd_cache, dev->cmd);" in code
    code = code.replace("kmem_cache_free(cmd_cache, dev->cmd);", "kfree(dev->cmd);")
    assert all(run.clean for run in runs_of(kernel, code, 0))
    assert all(run.clean for run in runs_of(kernel, changed("vfree(", "kvfree(")))


def test_without_a_return_the_good_path_frees_all_it_acquired(kernel):
    run = runs_of(
        kernel, changed("    return 0;\n", "").replace("return -ENOMEM;\n}", "return 0;\n}")
    )[-1]
    assert not run.injected
    assert not run.clean
    assert [one.state for one in run.shots[-1].things if one.path == "dev"] == ["freed"]


def test_what_hangs_on_a_nested_object_is_lost_with_it(kernel):
    code = changed("err_desc:\n    kfree(dev->ring->desc);\n", "err_desc:\n", NESTED)
    run = runs_of(kernel, code, NESTED)[3]
    assert leaks(run) == {"dev->ring->desc": 2048}


def test_kvmalloc_goes_on_after_a_failure(kernel):
    seed = next(n for n in range(50) if "kvzalloc(65536" in right(n))
    runs = runs_of(kernel, right(seed), seed)
    run = next(run for run in runs if run.failed == "dev->log" and run.returned == "0")
    assert any("kmalloc fails, vmalloc steps in" in shot.told for shot in run.shots)
    assert run.clean


def test_the_kernel_itself_stays_as_it_is(kernel):
    before = kernel.snapshot()
    driver = Driver.of(1)
    play(kernel, driver, driver.parse(driver.broken(1).code), 5)
    assert (kernel.snapshot().pages, kernel.snapshot().settings) == (before.pages, before.settings)


# -- the small C ----------------------------------------------------------------------------------


def test_conditions_clearing_and_one_line_ifs_are_understood(kernel):
    code = changed(
        "    if (!dev->dma)\n        goto err_ring;", "    if (!dev->dma) goto err_ring;"
    )
    code = code.replace("    kfree(dev->ring);", "    if (dev->ring) {\n        kfree(dev->ring);"
                        " /* once */\n        dev->ring = NULL;\n    }\n    kfree(dev->ring);")  # fmt: skip
    assert all(run.clean for run in runs_of(kernel, code))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("goto err_fw;", "goto err_nowhere;", "and there is no such label"),
        (
            "    vfree(dev->fw);",
            "    vfree(dev->fw)",
            "line 29 is not understood: 'vfree(dev->fw)'",
        ),
        ("    vfree(dev->fw);", "    free(dev->fw);", "is not understood"),
        ("    vfree(dev->fw);", "    goto err_dma;", "jumps back to err_dma"),
        ("vmalloc(32768)", "vmalloc(4096)", "leave the acquisitions as they are"),
        ("    dev->fw = vmalloc(32768);\n", "", "leave the acquisitions as they are"),
        ("    return 0;\n", "    return 0;\n}\n}\n", "braces"),
    ],
)
def test_what_is_not_understood_is_said(old, new, words):
    with pytest.raises(BadCode, match=words.replace("(", r"\(").replace(")", r"\)")):
        Driver.of(FLAT).parse(tuple(changed(old, new).splitlines()))


# -- the view -------------------------------------------------------------------------------------


def test_text_says_everything(kernel):
    view = LeakGym(kernel, seed=FLAT, n=5)
    code, _, rest = view.text().partition("\n\nWhich")
    assert "Which" + rest == TABLE
    assert [line[4:] for line in code.splitlines()] == [line.rstrip() for line in view.plan.code]
    assert repr(view) == "LeakGym(cam_probe, N = 5: dev->dma = __get_free_pages())"
    assert LeakGym(kernel, seed=FLAT, n=5).text() == view.text()


def test_steps_go_back_and_show_who_holds_what(kernel):
    view = LeakGym(kernel, seed=FLAT, n=5)
    view.act("step", value=8)
    assert ">  16  jump to err_fw" in view.text()
    assert "  dev->ring: held, 2,048 bytes; its pointer leads to it" in view.text()
    view.step = 9
    assert "  dev->fw: freed; its pointer leads to freed memory" in view.text()
    with pytest.raises(ValueError, match="from 0 to 11"):
        view.step = 12


def test_repairing_makes_every_n_leak_free(kernel):
    view = LeakGym(kernel, seed=FLAT, n=6)
    assert not view.leak_free
    view.act("jump", step=3, value="goto err_ring;")
    view.act("free", step=0, value="free_pages(dev->dma, 2);")
    assert view.leak_free
    assert view.plan == view.driver.right
    assert "leak-free: 7 of 7" in view.text()
    view.act("move", step=3, by=-1)
    assert not view.leak_free
    view.act("move", step=0, by=-1)
    view.act("reset")
    assert view.plan == view.driver.broken(FLAT)
    assert LeakGym(kernel, seed=FLAT, broken=False).leak_free


def test_what_is_freed_before_a_jump_can_be_taken_out_and_put_back(kernel):
    seed = next(n for n in SEEDS if any(Driver.of(n).broken(n).extras))
    view = LeakGym(kernel, seed=seed)
    step = next(n for n, extra in enumerate(view.plan.extras) if extra)
    view.act("extra", step=step, value="/* nothing */")
    assert not any(view.plan.extras)
    view.act("extra", step=step, value=view.plan.offered[step])
    assert view.plan == view.driver.broken(seed)


def test_the_page_gets_what_the_text_says(kernel):
    view = LeakGym(kernel, seed=FLAT, n=6)
    state = view.state
    lines = [" " * row["indent"] + row["text"] for row in state["lines"]]
    assert lines == [line.rstrip() for line in view.plan.code]
    for row in state["rows"]:
        assert f"{row['name']:<44}{row['result']}" in view.text()
    for shot in state["shots"]:
        view.act("step", value=state["shots"].index(shot))
        assert shot["told"] in view.text()
        assert all(f"  {thing['line']}" in view.text() for thing in shot["things"])
    assert state["result"]["findings"] == ["Line 25 gives back dev->dma with the wrong order."]
    assert text("leak_gym.kmemleak_pages") in view.text()


def test_it_follows_the_kernel(kernel):
    view = LeakGym(kernel, seed=FLAT)
    address = view.runs[-1].shots[0].told
    kernel.kmalloc(192, "GFP_KERNEL")
    assert view.runs[-1].shots[0].told != address


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda k: LeakGym(3), TypeError, "not of a value of type int"),
        (lambda k: LeakGym(k, depth=3), TypeError, "depth"),
        (lambda k: LeakGym(k, n=9), ValueError, "from 1 to 7"),
        (lambda k: LeakGym(k).act("peek"), ValueError, "there are: jump, extra"),
        (lambda k: LeakGym(k).act("jump", step=1, value="goto x;"), ValueError, "goto err_dev;"),
        (lambda k: LeakGym(k).act("jump", step=9, value="goto x;"), ValueError, "there are: -"),
    ],
)
def test_what_is_wrong_is_said(kernel, make, error, words):
    with pytest.raises(error, match=words):
        make(kernel)


# -- predictions ----------------------------------------------------------------------------------


def predicting(kernel, seed, n, answers):
    view = LeakGym(kernel, seed=seed, n=n, predict=True)
    view.act("commit", answers=answers)
    return view, view.quiz.verdicts[n]


def test_nothing_is_shown_before_the_prediction(kernel):
    view = LeakGym(kernel, seed=FLAT, n=5, predict=True)
    assert view.asking
    assert view.state["shots"] == []
    assert view.state["result"] is None
    assert {row["clean"] for row in view.state["rows"]} == {None}
    assert "bytes leak" not in view.text()
    view.act("free_play", on=True)
    assert "Free play opens after the first prediction" in view.text()
    view.act("unknown")
    assert "Not known, and counted as that: dev->ring (2,048 bytes) leaks." in view.text()
    assert view.quiz.counts == {"right": 0, "wrong": 0, "unknown": 1}
    view.act("next")
    assert view.n == 6
    assert view.asking
    view.act("free_play", on=True)
    assert "leak-free: 5 of 7" in view.text()


@pytest.mark.parametrize(
    ("seed", "n", "answers", "idea"),
    [
        (FLAT, 5, [], "kernel_cleans"),
        (FLAT, 5, ["dev->ring", "dev->dma"], "failed_leaks"),
        (FLAT, 4, ["dev"], "one_label"),
        (FLAT, 5, ["dev", "dev->fw", "dev->ring"], "nothing_runs"),
        (FLAT, 6, ["dev->dma"], "silent_is_fine"),
    ],
)
def test_wrong_answers_name_the_wrong_idea(kernel, seed, n, answers, idea):
    view, verdict = predicting(kernel, seed, n, answers)
    assert verdict.right is False
    assert verdict.idea == idea
    assert verdict.idea_text in view.text()


def test_free_is_deep_is_named(kernel):
    view = LeakGym(kernel, seed=FLAT, n=6, predict=True)
    view.act("jump", step=4, value="goto err_dev;")
    view.act("commit", answers=["dev->fw"])
    assert view.quiz.verdicts[6].idea == "free_is_deep"


def test_a_right_answer_and_a_change_that_asks_again(kernel):
    view, verdict = predicting(kernel, FLAT, 6, ["dev->dma", TROUBLE])
    assert verdict.right
    assert "Right: dev->dma (12,288 bytes) leaks, something is freed wrongly." in view.text()
    view.act("free", step=0, value="free_pages(dev->dma, 2);")
    assert view.asking


def test_every_idea_has_a_name():
    ideas = {key.rpartition(".")[2] for key in keys() if key.startswith("leak_gym.idea.")}
    for idea in ideas:
        assert "“" in text(f"leak_gym.idea_name.{idea}")

"""GfpPanel without a browser: bits, names and hex both ways, comparing, predictions."""

import itertools

import pytest

from kmemkit.gfp import RELEASES, decode, effects, encode, profile
from kmemkit.strings import keys, text
from kmemkit.views import GfpPanel
from kmemkit.views._gfp_quiz import DEALT, QUESTIONS, UNKNOWN, Quiz, options, truth
from kmemkit.views._gfp_rows import SECTIONS, Request, bits_of, row_keys

pytestmark = pytest.mark.usefixtures("sends_at_once")

ATOMIC = """\
Mask: 0x820 = GFP_ATOMIC in Linux 6.12, x86_64, order 0 = 1 page = 4 kB

May I sleep?
    flags set        __GFP_KSWAPD_RECLAIM
    may sleep        no: safe in atomic context
    its reclaim      none of its own
    kswapd           woken when free pages fall below the LOW watermark

Where from?
    flags set        none
    zones in order   Normal → DMA32 → DMA
    mobility         U Unmovable; stays where it is
"""


def shown(panel, section, label):
    """Return the lines of one row on the page, for each mask."""
    rows = next(s["rows"] for s in panel.state["sections"] if s["key"] == section)
    cells = next(row["cells"] for row in rows if row["label"] == label)
    return [cell["lines"] for cell in cells]


def bit(panel, name):
    return next(bit for bit in panel.state["bits"] if bit["name"] == name)


# -- one mask ----------------------------------------------------------------------------------------


def test_text_twin():
    view = GfpPanel("GFP_ATOMIC")
    assert view.text().startswith(ATOMIC)
    assert "must stay free   37.5 % of the MIN mark" in view.text()
    assert "– direct reclaim · without __GFP_DIRECT_RECLAIM" in view.text()
    assert all(len(line) <= 96 for line in view.text().splitlines())


def test_a_bit_is_switched_and_everything_follows():
    view = GfpPanel("GFP_KERNEL")
    view.act("toggle", which=0, place=10)
    assert view.mask == 0x8C0
    assert view.state["masks"][0]["prints"] == "0x8c0 = __GFP_IO|__GFP_FS|__GFP_KSWAPD_RECLAIM"
    assert not bit(view, "__GFP_DIRECT_RECLAIM")["on"][0]
    assert shown(view, "sleep", "may sleep") == [["no: safe in atomic context"]]
    view.act("toggle", which=0, place=10)
    assert view.state["masks"][0]["typed"] == "GFP_KERNEL"


@pytest.mark.parametrize(
    ("typed", "mask"),
    [
        ("0xcc0", 0xCC0),
        ("GFP_KERNEL", 0xCC0),
        (" GFP_KERNEL & ~__GFP_RECLAIM ", 0xC0),
        ("0x820|__GFP_ZERO", 0x920),
        ("0", 0),
    ],
)
def test_names_and_hex_are_typed(typed, mask):
    view = GfpPanel()
    view.act("type", which=0, typed=typed)
    assert view.mask == mask
    assert view.state["masks"][0]["typed"] == typed.strip()
    assert not view.state["masks"][0]["error"]
    assert [b["place"] for b in view.state["bits"] if b["on"][0]] == [
        place for place in range(32) if mask >> place & 1
    ]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("GFP_KERNAL", "did you mean GFP_KERNEL"),
        ("GFP_KERNEL __GFP_ZERO", "write | between flags"),
        ("  ", "Nothing is written"),
        ("__GFP_ATOMIC", "it is one in 5.10 to 6.1"),
    ],
)
def test_what_cannot_be_read_stays_and_is_explained(typed, says):
    view = GfpPanel("GFP_NOFS")
    view.act("type", which=0, typed=typed)
    state = view.state["masks"][0]
    assert view.mask == encode("GFP_NOFS")
    assert state["typed"] == typed
    assert says in state["error"]
    view.act("toggle", which=0, place=8)
    assert not view.state["masks"][0]["error"]


def test_a_name_without_a_bit_is_noted():
    view = GfpPanel()
    view.act("type", which=0, typed="GFP_KERNEL|__GFP_NOLOCKDEP")
    assert view.mask == 0xCC0
    assert "needs CONFIG_LOCKDEP" in view.state["masks"][0]["error"]


def test_every_composite_can_be_picked_in_every_release():
    view = GfpPanel()
    for release in RELEASES:
        view.release = release
        for name in view.state["composites"]:
            view.act("pick", which=0, name=name)
            assert view.mask == encode(name, release)
            assert view.state["masks"][0]["composite"] == name


def test_a_release_reads_the_same_bits_by_its_own_names():
    view = GfpPanel("GFP_ATOMIC")
    for release in RELEASES:
        view.release = release
        assert view.mask == 0x820
        assert view.state["masks"][0]["prints"] == f"0x820 = {decode(0x820, release)}"
        assert encode(view.state["masks"][0]["typed"], release) == 0x820
    view.mask = 0xA20
    assert "0x200 is no flag of Linux 7.2; it is __GFP_ATOMIC in 5.10 to 6.1." in view.text()
    view.release = "5.10"
    assert view.state["masks"][0]["prints"] == "0xa20 = GFP_ATOMIC"
    assert "told by the rules of 6.12" in view.text()


@pytest.mark.parametrize("release", RELEASES)
def test_every_flag_of_every_release_is_shown_and_explained(release):
    found = bits_of(release, (0,))
    assert [b.name for b in found if b.name] == [name for name, _ in profile(release).flags]
    assert len(found) % 4 == 0
    for b in found:
        assert b.section in SECTIONS
        assert b.hex in b.says(release)
        assert not b.name or b.says(release).startswith(b.name)


def test_a_bit_above_all_flags_is_shown():
    view = GfpPanel(1 << 31)
    assert len(view.state["bits"]) == 32
    assert view.state["bits"][31]["says"] == "bit 31 = 0x80000000 · no flag of Linux 6.12"


def test_order_and_machine_change_what_it_does():
    view = GfpPanel("GFP_HIGHUSER")
    assert shown(view, "where", "zones in order") == [["Normal", "DMA32", "DMA"]]
    view.arch = "i386"
    assert shown(view, "where", "zones in order") == [["HighMem", "Normal", "DMA"]]
    assert "✓ try again?" in shown(view, "hard", "rungs")[0]
    view.act("order", value="4")
    [rungs] = shown(view, "hard", "rungs")
    assert "– try again? · above order 3 only with __GFP_RETRY_MAYFAIL" in rungs
    view.act("order", value="11")
    assert shown(view, "hard", "retries") == [["none: NULL at once, order 10 is the highest"]]


def test_a_caller_that_must_not_sleep():
    view = GfpPanel("GFP_NOIO")
    assert shown(view, "pages", "illegal") == [["nothing"]]
    view.act("atomic", on=True)
    [[finding]] = shown(view, "pages", "illegal")
    assert finding.startswith("__GFP_DIRECT_RECLAIM in atomic context")


def test_page_and_text_agree_for_any_mask():
    for mask, order in itertools.product((0, 0xCC0, 0x820, 0x1F, 0xFFFFFFFF, 0x8020), (0, 3, 11)):
        view = GfpPanel(mask, order=order)
        folded = "".join(view.text().split())
        for section in view.state["sections"]:
            assert "".join(section["title"].split()) in folded
            for row in section["rows"]:
                for line in row["cells"][0]["lines"]:
                    assert "".join(line.split()) in folded, line


# -- two masks ---------------------------------------------------------------------------------------


def test_two_masks_are_told_apart():
    view = GfpPanel("GFP_KERNEL|__GFP_HIGH", "GFP_ATOMIC")
    assert view.differences() == "They differ in __GFP_IO, __GFP_FS, __GFP_DIRECT_RECLAIM."
    differ = {
        row["label"]: row["differs"]
        for section in view.state["sections"]
        for row in section["rows"]
    }
    assert differ["may sleep"] and differ["must stay free"] and differ["rungs"]
    assert not differ["zones in order"] and not differ["mobility"]
    assert "  ≠ must stay free   A: 50 % of the MIN mark" in view.text()
    assert "B: 37.5 % of the MIN mark" in view.text()


def test_compare_starts_with_the_same_mask_and_ends_with_one():
    view = GfpPanel("GFP_NOFS")
    view.act("compare", on=True)
    assert view.other == view.mask
    assert view.differences() == "The two masks are the same."
    view.act("pick", which=1, name="GFP_NOIO")
    assert view.differences() == "They differ in __GFP_IO."
    assert (view.mask, view.other) == (encode("GFP_NOFS"), encode("GFP_NOIO"))
    view.act("compare", on=False)
    assert view.other is None
    assert view.differences() == ""


# -- predictions -------------------------------------------------------------------------------------


def test_nothing_is_shown_before_an_answer():
    view = GfpPanel("GFP_ATOMIC", predict=True)
    assert view.asking
    assert all(section["rows"] == [] for section in view.state["sections"])
    assert view.state["masks"][0]["summary"] == ""
    assert "37.5 %" not in view.text()
    view.act("commit", answers={"sleep": "no", "where": "Normal", "hard": "37.5"})
    assert "37.5 %" in view.text()
    assert view.quiz.counts == {"right": 3, "wrong": 0, "unknown": 0}
    view.act("toggle", which=0, place=10)
    assert view.asking


def test_unknown_is_counted_and_opens_free_play():
    view = GfpPanel(predict=True, seed=1)
    view.act("free_play", on=True)
    assert view.asking
    assert "Free play opens after the first prediction" in view.text()
    view.act("unknown")
    assert view.quiz.score() == "predictions: 0 right, 0 wrong, 3 not known"
    view.act("free_play", on=True)
    view.act("next")
    assert not view.asking


def test_masks_are_dealt_by_the_seed():
    def deals(seed):
        quiz = Quiz(seed)
        return [quiz.deal() for _ in range(len(DEALT))]

    assert deals(5) == deals(5) != deals(6)
    assert sorted(mask for mask, _ in deals(5)) == sorted(encode(names) for names in DEALT)
    assert {arch for _, arch in deals(5)} == {"x86_64", "i386"}
    first, arch = Quiz(9).deal()
    view = GfpPanel(predict=True, seed=9)
    assert (view.mask, view.arch) == (first, arch)
    view.act("next")
    assert view.mask != first


def requests():
    for names, arch in itertools.product(DEALT, ("x86_64", "i386")):
        yield Request(encode(names), arch=arch)


def test_what_is_right_is_what_the_rules_say():
    for r in requests():
        can = effects(r.mask, arch=r.arch)
        assert truth(r, "sleep") == ("yes" if can.may_sleep else "no")
        assert truth(r, "where") == r.zones[0]
        assert float(truth(r, "hard")) == can.min_percent
        for question in QUESTIONS:
            assert truth(r, question) in options(r, question)


def test_no_right_answer_gets_an_idea_and_every_idea_is_met():
    met = set()
    for r, question in itertools.product(requests(), QUESTIONS):
        for said in (*options(r, question), UNKNOWN):
            quiz = Quiz(0)
            quiz.judge(r, {question: said})
            verdict = quiz.verdicts[question]
            right = said == truth(r, question)
            assert verdict.right is (None if said == UNKNOWN else right)
            assert not (verdict.idea and verdict.right)
            met |= {verdict.idea} - {""}
    for section in ("gfp_panel.idea.", "gfp_panel.idea_name."):
        assert {key.removeprefix(section) for key in keys() if key.startswith(section)} == met


@pytest.mark.parametrize(
    ("mask", "arch", "question", "said", "idea"),
    [
        ("GFP_NOIO", "x86_64", "sleep", "no", "M4, “NOIO"),
        ("GFP_KERNEL|__GFP_HIGH", "x86_64", "sleep", "no", "“__GFP_HIGH makes a mask atomic.”"),
        ("GFP_NOWAIT", "x86_64", "sleep", "yes", "“Waking kswapd means waiting"),
        ("GFP_KERNEL|__GFP_MOVABLE", "x86_64", "where", "Movable", "“__GFP_MOVABLE alone"),
        ("GFP_ATOMIC|GFP_DMA32", "i386", "where", "DMA", "“Without a DMA32 zone"),
        ("GFP_ATOMIC", "x86_64", "hard", "0", "M3, “Atomic requests may take everything.”"),
        ("GFP_NOWAIT", "x86_64", "hard", "37.5", "M3, “Who may not wait"),
        ("GFP_KERNEL|__GFP_HIGH", "x86_64", "hard", "37.5", "“GFP_ATOMIC is GFP_KERNEL"),
    ],
)
def test_the_idea_behind_a_miss_is_named(mask, arch, question, said, idea):
    view = GfpPanel(mask, arch=arch, predict=True)
    view.act("commit", answers={question: said})
    assert view.quiz.verdicts[question].idea_name.startswith(idea)
    assert idea in " ".join(view.text().split())


# -- the contract of all views -----------------------------------------------------------------------


def test_repr_and_static_output_are_stable_text():
    view = GfpPanel("GFP_KERNEL", "0x820")
    assert repr(view) == "GfpPanel(0xcc0 GFP_KERNEL, 0x820 GFP_ATOMIC, Linux 6.12)"
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == view.text()


def test_bad_input_is_refused_with_what_is_accepted():
    with pytest.raises(TypeError, match="GfpPanel does not know 'kernel'; it accepts: mask, other"):
        GfpPanel(kernel="5.10")
    with pytest.raises(ValueError, match="zones are known for x86_64 and i386, not for 'arm64'"):
        GfpPanel(arch="arm64")
    with pytest.raises(ValueError, match="order 12: give a whole number from 0 to 11"):
        GfpPanel(order=12)
    with pytest.raises(ValueError, match="the GFP bits of Linux 4.9 are not known"):
        GfpPanel(release="4.9")
    with pytest.raises(ValueError, match="did you mean"):
        GfpPanel("GFP_KERNL")
    view = GfpPanel()
    with pytest.raises(ValueError, match="0x100000000 is too large"):
        view.mask = 1 << 32
    with pytest.raises(ValueError, match="there is no control 'melt'; there are: toggle, type"):
        view.act("melt")


def test_a_release_is_read_as_uname_prints_it():
    assert GfpPanel(release="6.1.0-56-amd64").release == "6.1"


def test_every_row_of_the_string_table_is_shown():
    rows = {row for section in SECTIONS for row in row_keys(section)}
    prefix = "gfp_panel.row."
    assert rows == {key.removeprefix(prefix) for key in keys() if key.startswith(prefix)}
    assert text("gfp_panel.unlike") == "≠"

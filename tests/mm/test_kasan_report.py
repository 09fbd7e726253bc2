"""KASAN's reports behind the call trace, line by line as a kernel with CONFIG_KASAN wrote them."""

import pytest

from kmemkit import Kernel

GFP = "GFP_KERNEL"


@pytest.fixture
def kernel():
    return Kernel("64M", debug_kernel=True)


def body(kernel):
    """Return the lines of the last report behind its call trace."""
    lines = kernel.dmesg().splitlines()
    start = len(lines) - 1 - lines[::-1].index(" </TASK>")
    return lines[start + 1 : -1]


def marks(lines):
    """Return the marked line of the memory state, and what its arrow points to."""
    row = next(n for n, line in enumerate(lines) if line.startswith(">"))
    arrow = lines[row + 1].index("^")
    return lines[row].split(": ")[1], lines[row][arrow : arrow + 2]


def test_a_store_past_the_bytes_asked_for(kernel):
    at = kernel.kmalloc(60, GFP)
    kernel.write(at + 62, b"X")
    lines = body(kernel)
    assert lines[0] == ""
    assert lines[1] == "Allocated by task 1 on cpu 0 at 0.000005s:"
    assert lines[2].startswith(" learner at test_a_store_past_the_bytes_asked_for() in ")
    assert lines[2].endswith("at = kernel.kmalloc(60, GFP)")
    assert lines[3:9] == [
        "",
        f"The buggy address belongs to the object at {at:016x}",
        " which belongs to the cache kmalloc-64 of size 64",
        "The buggy address is located 2 bytes to the right of",
        f" allocated 60-byte region [{at:016x}, {at + 60:016x})",
        "",
    ]
    assert lines[9:14] == [
        "The buggy address belongs to the physical page:",
        f"page: refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:{at >> 12 & 0xFFFFF:#x}",
        "flags: 0xfffffc0000000(node=0|zone=1|lastcpupid=0x1fffff)",
        "page_type: f5(slab)",
        "page dumped because: kasan: bad access detected",
    ]
    assert lines[14:16] == ["", "Memory state around the buggy address:"]
    assert marks(lines) == ("00 00 00 00 00 00 00 04 fc fc fc fc fc fc fc fc", "04")
    assert len(lines) == 22


def test_a_store_after_the_free(kernel):
    at = kernel.kmalloc(64, GFP)
    kernel.kfree(at)
    kernel.write(at + 8, b"D" * 8)
    lines = body(kernel)
    assert [line[:24] for line in lines if " by task " in line] == [
        "Allocated by task 1 on c", "Freed by task 1 on cpu 0",
    ]  # fmt: skip
    assert "The buggy address is located 8 bytes inside of" in lines
    assert f" freed 64-byte region [{at:016x}, {at + 64:016x})" in lines
    assert marks(lines) == ("fa fb fb fb fb fb fb fb fc fc fc fc fc fc fc fc", "fb")


def test_a_pointer_into_an_object_is_freed(kernel):
    at = kernel.kmalloc(64, GFP)
    kernel.kfree(at + 8)
    lines = body(kernel)
    assert "The buggy address is located 8 bytes inside of" in lines
    assert f" 64-byte region [{at:016x}, {at + 64:016x})" in lines
    assert not [line for line in lines if line.startswith("Freed")]
    assert marks(lines) == ("00 00 00 00 00 00 00 00 fc fc fc fc fc fc fc fc", "00")


def test_an_access_that_begins_well_is_marked_where_it_goes_wrong(kernel):
    at = kernel.kmalloc(64, GFP)
    kernel.read(at + 56, 16)
    lines = body(kernel)
    assert "The buggy address is located 56 bytes inside of" in lines
    assert marks(lines)[1] == "fc"


def test_behind_a_vmalloc_area(kernel):
    at = kernel.vmalloc(100)
    kernel.write(at + 104, b"X")
    lines = body(kernel)
    assert lines[1] == (
        f"The buggy address belongs to a 1-page vmalloc region starting at {at:#x} allocated at "
        "learner"
    )
    assert marks(lines) == ("00 00 00 00 00 00 00 00 00 00 00 00 04 f8 f8 f8", "f8")


def test_a_free_page_and_what_lies_behind_a_large_block(kernel):
    page = kernel.get_free_pages(GFP)
    kernel.free_pages(page, 0)
    kernel.read(page + 128)
    lines = body(kernel)
    assert lines[2].startswith("page: refcount:0 ")
    assert marks(lines) == (" ".join(["ff"] * 16), "ff")
    large = kernel.kmalloc(10_000, GFP)
    kernel.write(large + 10_001, b"X")
    assert marks(body(kernel)) == ("00 00 fe fe fe fe fe fe fe fe fe fe fe fe fe fe", "fe")


def test_a_clone_knows_who_it_was(kernel):
    at = kernel.kmalloc(64, GFP)
    clone = kernel.clone()
    for one in (kernel, clone):
        one.write(at + 64, b"X")
    assert body(clone) == body(kernel)

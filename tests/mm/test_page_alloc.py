"""Requests that end in NULL and what is written of them, and pages taken in bulk."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.mmzone import HIGH, LOW, MIN


def bounded(free=200):
    """Return a one-zone kernel without memory to take back, and with `free` pages above no mark."""
    kernel = Kernel("4M")
    zone = kernel.zones[0]
    kernel.alloc_pages("GFP_ATOMIC", 9)
    kernel.alloc_pages("GFP_ATOMIC", 8)
    while zone.free_pages > free:
        kernel.alloc_pages("GFP_ATOMIC", 0)
    return kernel, zone


def test_failure_is_reported_unless_it_must_not_be():
    kernel, zone = bounded()
    zone.watermark[:3] = [150, 150, 150]
    while kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN") is not None:
        pass
    assert kernel.dmesg() == ""
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY", 3) is None
    assert kernel.dmesg().splitlines()[0] == (
        "init: page allocation failure: order:3, mode:0x10cc0(GFP_KERNEL|__GFP_NORETRY), "
        "nodemask=(null),cpuset=/,mems_allowed=0"
    )


def test_failure_report_names_the_nodes():
    kernel = Kernel("64M", nodes=4)
    for zone in kernel.zones:
        zone.watermark[:3] = [zone.managed] * 3
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_RETRY_MAYFAIL") is None
    assert (
        kernel.dmesg()
        .splitlines()[0]
        .endswith(
            "order:0, mode:0x4cc0(GFP_KERNEL|__GFP_RETRY_MAYFAIL), "
            "nodemask=(null),cpuset=/,mems_allowed=0-3"
        )
    )


# -- bulk -----------------------------------------------------------------------------------------


def test_bulk_takes_what_the_list_gives():
    kernel = Kernel("64M")
    pages = kernel.alloc_pages_bulk("GFP_KERNEL", 100)
    assert len(pages) == len(set(pages)) == 100
    single = Kernel("64M")
    assert pages == [single.alloc_pages("GFP_KERNEL") for _ in range(100)]


def bulk_machine(spare):
    """Return a kernel with so many pages above the low mark of the one zone that may be used."""
    kernel = Kernel("64M", pcp=True)
    dma, zone = kernel.zones
    dma.watermark[:3] = [dma.managed] * 3
    zone.watermark[MIN], zone.watermark[LOW] = 10, zone.vm_stat - spare
    zone.watermark[HIGH] = zone.watermark[LOW] + 10
    return kernel, zone


@pytest.mark.parametrize(("wanted", "got"), [(149, 149), (150, 1), (151, 1)])
def test_bulk_asks_the_low_mark_for_all_pages_at_once(wanted, got):
    kernel, _ = bulk_machine(spare=150)
    # where it says no, one page is asked for the ordinary way
    assert len(kernel.alloc_pages_bulk("GFP_KERNEL", wanted)) == got


def test_bulk_counts_a_boost():
    kernel, zone = bulk_machine(spare=150)
    zone.watermark_boost = 60
    assert len(kernel.alloc_pages_bulk("GFP_KERNEL", 90)) == 1
    kernel, zone = bulk_machine(spare=150)
    zone.watermark_boost = 60
    assert len(kernel.alloc_pages_bulk("GFP_KERNEL", 89)) == 89


def test_bulk_uses_local_zones_only():
    kernel = Kernel("4G", nodes=2, cpus=2)
    for zone in kernel.zones:
        if zone.nid == 0:
            zone.watermark[:3] = [zone.managed] * 3
    pages = kernel.alloc_pages_bulk("GFP_KERNEL", 20)
    assert len(pages) == 1
    assert kernel.page_zone(pages[0]).nid == 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_bulk_of_few(count):
    assert len(Kernel("64M").alloc_pages_bulk("GFP_KERNEL", count)) == count


def test_bulk_from_an_empty_machine():
    kernel = Kernel("256K")
    assert len(kernel.alloc_pages_bulk("GFP_KERNEL", 64)) == 1  # 64 free pages are not more than 64
    assert len(kernel.alloc_pages_bulk("GFP_KERNEL", 62)) == 62
    assert len(kernel.alloc_pages_bulk("GFP_KERNEL", 9)) == 1
    assert kernel.alloc_pages_bulk("GFP_KERNEL|__GFP_NORETRY", 9) == []


def test_bulk_with_account_is_one_page_a_call():
    assert len(Kernel("64M").alloc_pages_bulk("GFP_KERNEL_ACCOUNT", 10)) == 1


def test_bulk_looks_at_pages_too():
    kernel = Kernel("64M")
    first = kernel.alloc_pages("GFP_KERNEL")
    kernel.get_page(first + 1)  # that page waits on this CPU's list
    pages = kernel.alloc_pages_bulk("GFP_KERNEL", 2)
    assert first + 1 not in pages
    assert f"pfn:{first + 1:05x}" in kernel.dmesg()

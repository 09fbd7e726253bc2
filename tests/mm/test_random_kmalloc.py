"""CONFIG_RANDOM_KMALLOC_CACHES: copies of kmalloc's caches, chosen by the line of code that calls."""

from kmemkit import Kernel

GFP = "GFP_KERNEL"


def cache_of(kernel, at):
    return kernel.slabs[at - 0xFFFF888000000000 >> 12].cache.name


def one_line(kernel, size=64):
    return cache_of(kernel, kernel.kmalloc(size, GFP))


def many_lines(kernel):
    places = [
        compile(f"got = kernel.kmalloc(64, {GFP!r})", f"driver{n}.c.py", "exec") for n in range(200)
    ]
    names = []
    for place in places:
        scope = {"kernel": kernel, "__name__": "driver"}
        exec(place, scope)
        names.append(cache_of(kernel, scope["got"]))
    return names


def test_debian_has_one_copy():
    kernel = Kernel("64M")
    assert set(many_lines(kernel)) == {"kmalloc-64"}
    assert not [s.name for s in kernel.slab_caches if "rnd" in s.name]


def test_there_are_fifteen_copies_more_between_kmalloc_and_its_reclaimable_kin():
    kernel = Kernel("64M", random_kmalloc_caches=True)
    one_line(kernel)
    names = [s.name for s in kernel.slab_caches]
    copies = [name for name in names if "-rnd-" in name]
    assert len(copies) == 15 * 13
    assert copies[:2] == ["kmalloc-rnd-01-96", "kmalloc-rnd-01-192"]
    assert copies[-1] == "kmalloc-rnd-15-8k"
    assert names.index("kmalloc-8k") < names.index(copies[0])
    assert names.index(copies[-1]) < names.index("kmalloc-rcl-96")
    assert "kmalloc-rnd-07-4k" in kernel.slabinfo()


def test_a_line_of_code_keeps_its_copy_and_lines_have_all_of_them():
    kernel = Kernel("64M", random_kmalloc_caches=True)
    assert len({one_line(kernel) for _ in range(50)}) == 1
    copies = set(many_lines(kernel))
    assert len(copies) == 16
    assert "kmalloc-64" in copies


def test_the_seed_and_nothing_else_deals_them_out():
    first, again, other = (
        many_lines(Kernel("64M", seed=seed, random_kmalloc_caches=True)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_other_types_have_no_copies_and_a_clone_chooses_alike():
    kernel = Kernel("64M", random_kmalloc_caches=True)
    assert cache_of(kernel, kernel.kmalloc(64, "GFP_KERNEL_ACCOUNT")) == "kmalloc-cg-64"
    assert (
        cache_of(kernel, kernel.kmalloc(64, "GFP_KERNEL | __GFP_RECLAIMABLE")) == "kmalloc-rcl-64"
    )
    assert many_lines(kernel.clone()) == many_lines(kernel)
    assert kernel.ksize(kernel.kmalloc(65, GFP)) == 96

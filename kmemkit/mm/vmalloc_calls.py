"""vmalloc, vmap and kvmalloc: the C API, as methods of Kernel.

Methods carry the C names and argument order; NULL is None. Sizes are bytes, and wrap as a size_t
does. What the functions do is in vmalloc.py; the address space is `Kernel.vmalloc_space`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kmemkit import gfp as flags
from kmemkit.mm import vmalloc
from kmemkit.mm.arguments import SIZE_MAX, numbers, pointer, size_t, whole
from kmemkit.mm.cmdline import parse_size
from kmemkit.mm.context_calls import ContextCalls
from kmemkit.mm.kmalloc_calls import KmallocCalls
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE, VMALLOC_START
from kmemkit.mm.physaddr import address_text
from kmemkit.mm.slab_calls import ZERO_SIZE_PTR
from kmemkit.mm.vmap_area import VM_MAP_PUT_PAGES, VmallocSpace, is_vmalloc_addr
from kmemkit.snapshot import Snapshot

__all__ = ("VmallocCalls",)

# Inside a class Python would mangle names that begin with two underscores.
ZERO = flags.__GFP_ZERO
WARN_VREALLOC = "mm/vmalloc.c"


class VmallocCalls(KmallocCalls, ContextCalls):
    """The part of a machine that maps pages where addresses are free."""

    # -- state ------------------------------------------------------------------------------------

    def _prepare(self, release: str, nodes: int, cpus: int) -> None:
        super()._prepare(release, nodes, cpus)
        self.vmalloc_space = VmallocSpace()

    def _settings(self) -> dict[str, object]:
        return {**super()._settings(), "vmalloc": self.vmalloc_space.freeze()}

    def _load(self, snapshot: Snapshot) -> None:
        super()._load(snapshot)
        settings: Mapping[str, Any] = snapshot.settings
        self.vmalloc_space = VmallocSpace.thaw(settings.get("vmalloc", {}))

    def _moved(self) -> None:
        super()._moved()
        vmalloc.drain_vmap_work(self)

    # -- vmalloc ----------------------------------------------------------------------------------

    def vmalloc(self, size: int | str, *, owner: str = "") -> int | None:
        """Allocate `size` bytes of single pages, contiguous in addresses only; return the address.

        A guard page that is not mapped follows. None if there are not enough pages; vmalloc(0) is
        None with a warning. Free with vfree() or kvfree().

        Raises:
            Panic: in an interrupt.
        """
        return self._vmalloc("vmalloc", size, flags.GFP_KERNEL, owner)

    def vzalloc(self, size: int | str, *, owner: str = "") -> int | None:
        """Allocate as vmalloc() does, all zeroes (same name in Linux)."""
        return self._vmalloc("vzalloc", size, flags.GFP_KERNEL | ZERO, owner)

    def vmalloc_gfp(self, size: int | str, gfp: int | str, *, owner: str = "") -> int | None:
        """Allocate as vmalloc() does, with a mask: __vmalloc(), under whose name it is there too.

        The mask decides how hard to try. None lets it be called in an interrupt.
        """
        return self._vmalloc("__vmalloc", size, flags.as_mask(gfp, self.release), owner)

    def vfree(self, address: int | None) -> None:
        """Unmap and free what vmalloc() gave; NULL is fine (same name in Linux).

        The pages are free at once, the addresses only after the next purge. In an interrupt a
        worker frees it later. Anything that is not vmalloc memory is reported and left alone.
        """
        at = pointer(address)
        self._call(f"vfree({address_text(address)})", lambda: vmalloc.vfree(self, at))

    def vrealloc(self, address: int | None, size: int | str, gfp: int | str) -> int | None:
        """Make vmalloc memory larger or smaller; None leaves the old one as it was.

        It stays where it is as long as its pages suffice; otherwise it is copied. Size 0 frees it
        (same name in Linux).
        """
        at, nbytes, mask = pointer(address), _size(size), flags.as_mask(gfp, self.release)
        call = f"vrealloc({address_text(address)}, {nbytes}, {flags.decode(mask)})"
        return self._call(call, lambda: self._vrealloc(at, nbytes, mask), address_text)

    # -- vmap -------------------------------------------------------------------------------------

    def vmap(self, pages: Iterable[int], vm_flags: int = 0, *, owner: str = "") -> int | None:
        """Map pages at addresses one behind the other; return the address, or None.

        Args:
            pages: pfns or direct-map addresses; the same page may stand there more than once.
            vm_flags: VM_MAP_PUT_PAGES gives vfree() the references to them; otherwise they stay
                the caller's, and vunmap() ends the mapping.
            owner: a name for /proc/vmallocinfo.

        Raises:
            Panic: in an interrupt.
        """
        pfns = [self._pfn(page) for page in numbers("pages", pages, "pfns, or of addresses")]
        if whole("vm_flags", vm_flags, "VM_MAP_PUT_PAGES or 0") & ~VM_MAP_PUT_PAGES:
            raise ValueError(f"vm_flags={vm_flags:#x}: give VM_MAP_PUT_PAGES or 0")
        self._know_owner(owner)
        run = lambda: vmalloc.vmap(self, pfns, vm_flags, owner)  # noqa: E731
        return self._call(f"vmap({len(pfns)} pages)", run, address_text)

    def vunmap(self, address: int | None) -> None:
        """Unmap what vmap() mapped, and keep the pages; NULL is fine (same name in Linux).

        Raises:
            Panic: in an interrupt.
        """
        at = pointer(address)
        self._call(f"vunmap({address_text(address)})", lambda: vmalloc.vunmap(self, at))

    def is_vmalloc_addr(self, address: int | None) -> bool:
        """Return whether an address lies where vmalloc() maps, in use or not (same name in Linux).

        kvfree() asks this, and nothing else.
        """
        return is_vmalloc_addr(pointer(address))

    def vmalloc_to_page(self, address: int) -> int | None:
        """Return the pfn that an address is mapped to, or None (same name in Linux).

        The page tables know, where the arithmetic of virt_to_page() is wrong.
        """
        at = pointer(address)
        if PAGE_OFFSET <= at < VMALLOC_START and at - PAGE_OFFSET >> PAGE_SHIFT <= self._last_pfn():
            return self._pfn(at)
        return self.memory.mapped.get(at >> PAGE_SHIFT)

    # -- kvmalloc ---------------------------------------------------------------------------------

    def kvmalloc(self, size: int | str, gfp: int | str, *, owner: str = "") -> int | None:
        """Allocate by kmalloc(); if that fails and it is more than a page, by vmalloc().

        The kmalloc() attempt for more than a page does not try hard. Without
        __GFP_DIRECT_RECLAIM there is no second attempt. Free with kvfree().
        """
        return self._kvmalloc("kvmalloc", size, flags.as_mask(gfp, self.release), owner)

    def kvzalloc(self, size: int | str, gfp: int | str, *, owner: str = "") -> int | None:
        """Allocate as kvmalloc() does, all zeroes (same name in Linux)."""
        return self._kvmalloc("kvzalloc", size, flags.as_mask(gfp, self.release) | ZERO, owner)

    def kvmalloc_array(
        self, n: int, size: int | str, gfp: int | str, *, owner: str = ""
    ) -> int | None:
        """Allocate room for `n` elements; None without a word if the product overflows."""
        total = _size(n) * _size(size)
        mask = flags.as_mask(gfp, self.release)
        if total <= SIZE_MAX:
            return self._kvmalloc("kvmalloc_array", total, mask, owner)
        return self._call(f"kvmalloc_array({n}, {size})", lambda: None, address_text)

    def kvcalloc(self, n: int, size: int | str, gfp: int | str, *, owner: str = "") -> int | None:
        """Allocate as kvmalloc_array() does, all zeroes (same name in Linux)."""
        mask = flags.as_mask(gfp, self.release) | ZERO
        return self.kvmalloc_array(n, size, mask, owner=owner)

    def kvrealloc(self, address: int | None, size: int | str, gfp: int | str) -> int | None:
        """Make kvmalloc memory larger or smaller; None leaves the old one as it was.

        vmalloc memory stays vmalloc memory. Size 0 frees: it gives None for vmalloc memory, and
        ZERO_SIZE_PTR for the rest (same name in Linux).
        """
        at, nbytes, mask = pointer(address), _size(size), flags.as_mask(gfp, self.release)
        call = f"kvrealloc({address_text(address)}, {nbytes}, {flags.decode(mask)})"
        self._caches_ready()

        def run() -> int | None:
            if is_vmalloc_addr(at):
                return self._vrealloc(at, nbytes, mask)
            moved = self._krealloc(at, nbytes, vmalloc.kmalloc_gfp_adjust(mask, nbytes))
            if moved is None:
                moved = vmalloc.kvmalloc_node(self, nbytes, mask, "")
                if moved is not None and at:
                    self._copy(moved, at, self._ksize(at))
                    self._kfree(at)
            return moved

        return self._call(call, run, address_text)

    def kvfree(self, address: int | None) -> None:
        """Free kvmalloc(), vmalloc() and kmalloc() memory; NULL is fine (same name in Linux).

        The address alone says which of them it is.
        """
        at = pointer(address)
        self._call(f"kvfree({address_text(address)})", lambda: vmalloc.kvfree(self, at))

    def kvfree_sensitive(self, address: int | None, size: int | str) -> None:
        """Wipe `size` bytes, and free (same name in Linux)."""
        at, nbytes = pointer(address), _size(size)

        def run() -> None:
            if at > ZERO_SIZE_PTR:
                self._wipe(at, nbytes)
                vmalloc.kvfree(self, at)

        self._call(f"kvfree_sensitive({address_text(address)}, {nbytes})", run)

    # -- inside -----------------------------------------------------------------------------------

    def _vmalloc(self, name: str, size: int | str, mask: int, owner: str) -> int | None:
        nbytes = _size(size)
        self._know_owner(owner)
        run = lambda: vmalloc.vmalloc_node_range(self, nbytes, mask, 0, owner)  # noqa: E731
        return self._call(f"{name}({nbytes})", run, address_text)

    def _kvmalloc(self, name: str, size: int | str, mask: int, owner: str) -> int | None:
        nbytes = _size(size)
        self._know_owner(owner)
        run = lambda: vmalloc.kvmalloc_node(self, nbytes, mask, owner)  # noqa: E731
        return self._call(f"{name}({nbytes}, {flags.decode(mask)})", run, address_text)

    def _vrealloc(self, at: int, size: int, mask: int) -> int | None:
        if not size:
            vmalloc.vfree(self, at)
            return None
        area = self.vmalloc_space.find(at) if at else None
        if at and area is None:
            line = f"Trying to vrealloc() nonexistent vm area ({at:016x})"
            self.warn(WARN_VREALLOC, "vrealloc_noprof", line)
            return None
        if area is not None and size <= area.size:
            if size < area.requested and (self.init_on_alloc or mask & ZERO):
                self._wipe(at + size, area.requested - size)  # so that growing again finds zeroes
            area.requested = size
            return at
        moved = vmalloc.vmalloc_node_range(self, size, mask, 0, "")
        if moved is not None and area is not None:
            self._copy(moved, at, area.requested)
            vmalloc.vfree(self, at)
        return moved

    def _copy(self, to: int, source: int, size: int) -> None:
        """Copy bytes, page by page (memcpy()); zeroes that nobody wrote take no room."""
        for done in range(0, size, PAGE_SIZE):
            data = self.memory.read(source + done, min(PAGE_SIZE, size - done))
            if any(data) or self.memory.pfn_of(to + done) in self.memory.pages:
                self.memory.write(to + done, data)

    def _wipe(self, at: int, size: int) -> None:
        """Set bytes to zero; what nobody ever wrote to stays untouched."""
        end = at + size
        while at < end:
            length = min(end - at, PAGE_SIZE - at % PAGE_SIZE)
            pfn = self.memory.pfn_of(at, write=True)
            self.memory.clear(PAGE_OFFSET + (pfn << PAGE_SHIFT) + at % PAGE_SIZE, length)
            at += length


# Defined in the class body, Python would mangle the two underscores into another name.
setattr(VmallocCalls, "__vmalloc", VmallocCalls.vmalloc_gfp)


def _size(size: int | str) -> int:
    """Return a size as a size_t; text such as "3M" will do too."""
    if isinstance(size, int) and not isinstance(size, bool):
        return size_t(size)
    return parse_size(size)

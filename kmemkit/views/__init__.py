"""Widgets that show a snapshot, one class per file; each is imported when it is first named.

Every view says the same in pixels and in text (`view.text()`), and reads snapshots only: none
imports the simulator. Lessons and notebooks write `from kmemkit.views import PageMap`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmemkit.views.buddy_lab import BuddyLab as BuddyLab
    from kmemkit.views.compaction import Compaction as Compaction
    from kmemkit.views.context_stack import ContextStack as ContextStack
    from kmemkit.views.free_areas import FreeAreas as FreeAreas
    from kmemkit.views.gfp_panel import GfpPanel as GfpPanel
    from kmemkit.views.leak_gym import LeakGym as LeakGym
    from kmemkit.views.overflow_calculator import OverflowCalculator as OverflowCalculator
    from kmemkit.views.page_map import PageMap as PageMap
    from kmemkit.views.pairing_table import PairingTable as PairingTable
    from kmemkit.views.reclaim_ladder import ReclaimLadder as ReclaimLadder
    from kmemkit.views.size_classes import SizeClasses as SizeClasses
    from kmemkit.views.slab_map import SlabMap as SlabMap
    from kmemkit.views.stepper import Stepper as Stepper
    from kmemkit.views.watermarks import Watermarks as Watermarks
    from kmemkit.views.zonelist_walker import ZonelistWalker as ZonelistWalker

__all__ = (
    "BuddyLab",
    "Compaction",
    "ContextStack",
    "FreeAreas",
    "GfpPanel",
    "LeakGym",
    "OverflowCalculator",
    "PageMap",
    "PairingTable",
    "ReclaimLadder",
    "SizeClasses",
    "SlabMap",
    "Stepper",
    "Watermarks",
    "ZonelistWalker",
)

_HOMES = {
    "BuddyLab": "buddy_lab",
    "Compaction": "compaction",
    "ContextStack": "context_stack",
    "FreeAreas": "free_areas",
    "GfpPanel": "gfp_panel",
    "LeakGym": "leak_gym",
    "OverflowCalculator": "overflow_calculator",
    "PageMap": "page_map",
    "PairingTable": "pairing_table",
    "ReclaimLadder": "reclaim_ladder",
    "SizeClasses": "size_classes",
    "SlabMap": "slab_map",
    "Stepper": "stepper",
    "Watermarks": "watermarks",
    "ZonelistWalker": "zonelist_walker",
}


def __getattr__(name: str) -> object:
    """Import a view's module when the view is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

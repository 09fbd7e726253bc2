"""What ends a call that Linux would not survive either, as Python exceptions.

A WARN goes on and is only a line in `Kernel.dmesg()`. A BUG or an oops kills the task that made the
call; here it ends the call, with the kernel's own first line as the message.
"""

from __future__ import annotations

__all__ = ("KernelBug", "Livelock", "Oops", "Panic")


class KernelBug(RuntimeError):
    """The kernel found its own data broken (BUG())."""


class Oops(RuntimeError):
    """The kernel touched an address that is not there."""


class Panic(RuntimeError):
    """The whole machine stopped (panic()); nothing can be allocated any more."""


class Livelock(RuntimeError):
    """The request never returns: it goes round for ever, and nothing it can wait for will happen.

    A real machine would loop until somebody else frees memory; the simulator proves that a round
    changes nothing, and stops.
    """

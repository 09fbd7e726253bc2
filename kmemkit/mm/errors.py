"""What ends a call that Linux would not survive either, as Python exceptions.

A WARN goes on and is only a line in `Kernel.dmesg()`. A BUG or an oops kills the task that made the
call; here it ends the call, with the kernel's own first line as the message.
"""

from __future__ import annotations

__all__ = ("KernelBug", "Oops")


class KernelBug(RuntimeError):
    """The kernel found its own data broken (BUG())."""


class Oops(RuntimeError):
    """The kernel touched an address that is not there."""

"""A kernel websocket that does not wait: some 30 ms less between a click and the picture.

Jupyter's server leaves Nagle's algorithm on, so a small message (a click, a changed range of a
page map) can wait about 40 ms for an acknowledgement. `kmemkit lab` names this class on the
server's command line; nothing else about the server changes.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

__all__ = ("PromptConnection",)


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Jupyter's own kernel connection, with TCP_NODELAY set as soon as it is open."""

    def connect(self) -> Any:
        """Connect as usual, once the socket has been told to send at once."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()

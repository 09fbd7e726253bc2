"""A thread for tests of event loops: Playwright, in the same worker, keeps one running."""

from concurrent.futures import ThreadPoolExecutor


def elsewhere(function, *arguments):
    """Call in a thread of its own, where surely no asyncio loop runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()

"""Break one rule of the allocator at a time, and see whether a test notices.

`python scripts/mutation.py` needs a few minutes; `python scripts/mutation.py boost claim` tries the
rules whose names hold one of these words. The rules are in mutations.toml. Each is broken in
memory, in a process of its own, where the fast tests run until the first one fails. Exit code 1: a
broken rule that no test notices, or one that can't be broken because the sources have moved on.
"""

import argparse
import contextlib
import importlib.util
import io
import multiprocessing
import os
import signal
import sys
import tomllib
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import hypothesis.stateful  # noqa: F401  loaded once here, not in every process
import pytest

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("mutations.toml")
#: Far beyond what any test needs: a broken rule may well go round for ever.
SECONDS = 60


class Rule(NamedTuple):
    """One rule of the allocator, and how to break it."""

    name: str
    file: str  #: in kmemkit/mm
    before: str  #: source text that stands there once
    after: str
    unobservable: str = ""  #: why no test can notice

    def broken_source(self) -> str:
        """Return the file's text with the rule broken."""
        source = (ROOT / "kmemkit" / "mm" / self.file).read_text(encoding="utf-8")
        times = source.count(self.before)
        if times != 1:
            raise LookupError(f"{self.before.strip()!r} stands {times} times in mm/{self.file}")
        return source.replace(self.before, self.after)


class BrokenLoader(SourceFileLoader):
    """Loads one module from a text of its own."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        """Compile that text, whatever is cached of the file."""
        return compile(self.source, self.path, "exec", dont_inherit=True)


class BrokenFinder:
    """Finds the one broken module before anybody else finds the file."""

    def __init__(self, rule: Rule) -> None:
        self.name = f"kmemkit.mm.{rule.file.removesuffix('.py')}"
        path = str(ROOT / "kmemkit" / "mm" / rule.file)
        self.loader = BrokenLoader(self.name, path, rule.broken_source())

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Return the broken module's spec, None for any other."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


class FirstFailure:
    """Remembers the first test that failed, and lets none go on for ever."""

    name = ""

    def pytest_runtest_logstart(self) -> None:
        """Called by pytest before every test."""
        signal.alarm(SECONDS)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after every test."""
        if report.failed and not self.name:
            self.name = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Called by pytest after every file it has read."""
        if report.failed and not self.name:
            self.name = report.nodeid


def stages(module: str) -> list[list[str]]:
    """Return the tests to run, those that will probably notice a broken module first."""
    units = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/mm/test_*.py"))
    slow = "tests/mm/test_properties.py"
    golden = "tests/test_golden.py"
    own = f"tests/mm/test_{module}.py"
    users = [path for path in units if f"from kmemkit.mm.{module} import" in _text(path)]
    likely = [own] if own in units else [path for path in users if path != slow]
    rest = [path for path in units if path not in (*likely, slow)]
    return [stage for stage in (likely, [golden], rest, ["tests/test_snapshot.py", slow]) if stage]


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def first_failure(module: str) -> str:
    """Run the tests, stage by stage; return the first that fails, or an empty string."""

    def too_long(*_: object) -> None:
        raise TimeoutError("this test does not end")

    signal.signal(signal.SIGALRM, too_long)
    options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-o", "addopts="]
    for stage in stages(module):
        failure = FirstFailure()
        signal.alarm(SECONDS)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            code = pytest.main([*options, "--import-mode=importlib", *stage], plugins=[failure])
        signal.alarm(0)
        if failure.name:
            return failure.name
        if code:
            raise RuntimeError(f"pytest ended with {code}: {output.getvalue()[-2000:]}")
    return ""


def try_rule(rule: Rule | None) -> tuple[bool, str]:
    """Break a rule in this process; return whether all is well, and what to print about it."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if rule is None:
        failed = first_failure("")
        return not failed, failed
    try:
        sys.meta_path.insert(0, BrokenFinder(rule))
    except LookupError as error:
        return False, f"can't be broken: {error}"
    noticed = first_failure(rule.file.removesuffix(".py"))
    if rule.unobservable:
        return not noticed, noticed or f"nothing, and rightly: {rule.unobservable}"
    return bool(noticed), noticed or "NOTHING"


def main() -> int:
    """Try the rules asked for; print a table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="try the rules whose names hold one of these")
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, help="rules to try at once")
    asked = parser.parse_args()
    rules = [Rule(**row) for row in tomllib.loads(TABLE.read_text(encoding="utf-8"))["rule"]]
    rules = [rule for rule in rules if not asked.words or any(w in rule.name for w in asked.words)]
    width = max((len(rule.name) for rule in rules), default=0)
    wrong = 0
    with multiprocessing.get_context("fork").Pool(asked.j, maxtasksperchild=1) as pool:
        good, text = pool.apply(try_rule, [None])
        if not good:
            print(f"nothing is broken yet, but {text} fails")
            return 1
        print(f"{'broken rule':<{width}}  noticed by", flush=True)
        for rule, (good, text) in zip(rules, pool.imap(try_rule, rules), strict=True):
            wrong += not good
            print(f"{rule.name:<{width}}  {text}", flush=True)
    print(f"{len(rules)} rules broken; {wrong} not as it should be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

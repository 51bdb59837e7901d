"""variants_of(): each service and env once more for every region, instance and label that the repository has files for.

What a running process will be called is known to it alone, but a file that only processes of one region read names the region.
Files of several such names are combined, since a process may have them all, up to a bound; over it each file is looked at alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from livecfg.cli.effective import manifest_of
from livecfg.layers import Process
from livecfg.trust.tree import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from livecfg.layers import Manifest
    from livecfg.revision import Objects

Names = frozenset[tuple[str, str]]
"""What a path says of the process that reads it: `("region", "eu")`."""
COMBINATIONS = 100
"""For one service in one env; a hundred loads of a large repository are seconds."""
_SCOPE = frozenset({"service", "env"})
_PART = re.compile(r"\{([^{}]*)\}")


class _Template(NamedTuple):
    """A path template of the manifest, as a pattern whose groups stand for `names`."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]

    @property
    def is_further(self) -> bool:
        """Whether it names more than service and env."""
        return not _SCOPE.issuperset(self.names)


def variants_of(objects: Objects, tree: str, processes: list[Process]) -> list[Process]:
    """Give the processes, and after each the ones of its service and env that some file is for.

    Raises:
        RefusedError: the manifest is missing or malformed.

    """
    templates = [_compiled(template) for template in _templates(manifest_of(objects, tree))]
    if not any(template.is_further for template in templates):
        return processes
    found = _names_in(objects, tree, templates)
    return [variant for process in processes for variant in (process, *_variants(process, found))]


def described(process: Process) -> str:
    """Name a process in a list of what was looked at: `checkout/prod region=eu`."""
    more = {"region": process.region, "instance": process.instance, **{f"label:{k}": v for k, v in process.labels.items()}}
    return " ".join([f"{process.service}/{process.env}", *(f"{name}={value}" for name, value in more.items() if value)])


def _templates(manifest: Manifest) -> list[str]:
    globs = (*manifest.flags, *manifest.splits, *manifest.experiments, *manifest.segments)
    return list(dict.fromkeys((*manifest.layers, *globs, *manifest.files.values())))


def _compiled(template: str) -> _Template:
    text, names = "", list[str]()
    for index, part in enumerate(_PART.split(template)):
        if index % 2 == 0:
            text += re.escape(part).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
        elif part in names:
            text += f"(?P=n{names.index(part)})"
        else:
            dots = "." if part == "instance" else ""
            text += f"(?P<n{len(names)}>[a-z0-9][a-z0-9_{dots}-]*)"
            names.append(part)
    return _Template(re.compile(text), tuple(names))


def _names_in(objects: Objects, tree: str, templates: list[_Template]) -> list[set[Names]]:
    """For each template that names more than service and env, what its files say.

    A path that a template without such a name has, too, is that one's: `base.yaml` is no region.
    """
    found: dict[_Template, set[Names]] = {template: set() for template in templates if template.is_further}
    for path, _ in walk(objects, tree):
        matches = {template: match for template in templates if (match := template.pattern.fullmatch(path))}
        if all(template in found for template in matches):
            for template, match in matches.items():
                found[template].add(frozenset(zip(template.names, match.groups(), strict=True)))
    return [names for names in found.values() if names]


def _variants(process: Process, found: list[set[Names]]) -> Iterator[Process]:
    scope = frozenset({("service", process.service), ("env", process.env)})
    fitting = [{names - scope for names in group if _agree(names, scope)} for group in found]
    for names in sorted(map(sorted, _combined(fitting) - {frozenset()}), key=lambda names: (len(names), names)):
        given = dict(names)
        labels = {name.removeprefix("label:"): value for name, value in names if name.startswith("label:")}
        yield Process(process.service, process.env, given.get("region", ""), given.get("instance", ""), labels)


def _combined(groups: list[set[Names]]) -> set[Names]:
    """Everything one process can be called, of what the files say; when that is too much, what each file says."""
    combined: set[Names] = {frozenset()}
    for names in (names for group in groups for names in group):
        combined |= {names | other for other in combined if _agree(names, other)}
        if len(combined) > COMBINATIONS:
            return set().union(*groups)
    return combined


def _agree(names: Names, others: Names) -> bool:
    """Whether one process can be called all of this."""
    return len(dict((*names, *others))) == len(names | others)

"""`livecfg ci init`: the workflow of a Git host; on every push it runs what every process runs before it applies a revision."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from livecfg.cli.clone import Clone
from livecfg.cli.output import Exit, fail, output_option, talk
from livecfg.cli.signing import key_option, signing_key

if TYPE_CHECKING:
    from pathlib import Path

_ACTIONS = """\
# Runs what every process runs before it applies a revision; written by livecfg ci init.
name: livecfg
on: [push, pull_request]
permissions: {contents: read}
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, persist-credentials: false}
      - uses: actions/setup-python@v5
        with: {python-version: "3.13"}
      - run: pip install livecfg
      - run: livecfg check -o github
      # Who stands behind every commit of the branch that applications follow. The variable LIVECFG_TRUSTED_ROOT of the
      # repository holds the text of trusted_root.yaml: a file in here would be what it should be judged by.
      - if: github.event_name == 'push' && github.ref == 'refs/heads/{ref}'
        env:
          LIVECFG_TRUSTED_ROOT: ${{ vars.LIVECFG_TRUSTED_ROOT }}
        run: |
          echo "${LIVECFG_TRUSTED_ROOT:?set this variable to the text of trusted_root.yaml}" > ../trusted_root.yaml
          livecfg verify --ref {ref} --trusted-root ../trusted_root.yaml
"""
_GITLAB = """\
# Runs what every process runs before it applies a revision; written by livecfg ci init.
livecfg:
  image: python:3.13-slim
  variables: {GIT_DEPTH: "0"}
  script:
    - pip install livecfg
    - livecfg check
    # Who stands behind every commit of the branch that applications follow. The CI/CD variable LIVECFG_TRUSTED_ROOT (of type
    # file, protected) holds trusted_root.yaml: a file in here would be what it should be judged by.
    - |
      if [ "$CI_COMMIT_BRANCH" = "{ref}" ]; then
        livecfg verify --ref {ref} --trusted-root "${LIVECFG_TRUSTED_ROOT:?set this variable, of type file, to trusted_root.yaml}"
      fi
"""
_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
HOSTS = {
    "github": (".github/workflows/livecfg.yaml", _ACTIONS),
    "gitea": (".gitea/workflows/livecfg.yaml", _ACTIONS),
    "gitlab": (".gitlab-ci.yml", _GITLAB),
}


@click.group("ci")
def ci() -> None:
    """Have the Git host check every push."""


@ci.command("init")
@click.argument("host", type=click.Choice(sorted(HOSTS)))
@key_option
@output_option("json")
def init(host: str, key: Path | None, output: str) -> None:  # noqa: ARG001 - read where it is printed
    """Write and commit the workflow of HOST: `livecfg check` on every push, `livecfg verify` where applications follow."""
    from livecfg.cli.change import check, record
    from livecfg.cli.draft import Draft
    from livecfg.cli.judge import followed

    clone = Clone()
    ref = followed(clone).removeprefix("refs/heads/")
    if not _PLAIN.fullmatch(ref):
        fail(f"the branch {ref!r} has a name that a workflow cannot hold safely: letters, digits and . _ / - are expected")
    path, text = workflow(host, ref)
    if (clone.root / path).exists():
        fail(f"{path} is there already; nothing was changed", Exit.FINDINGS)
    signer = signing_key(clone, key)
    draft = Draft(clone)
    draft.check_nothing_staged()
    draft.put(path, text.encode())
    check(clone, draft)
    record(draft, f"Check every push on {host}", signer, path)
    talk("give the Git host the variable LIVECFG_TRUSTED_ROOT, with the file that applications ship")


def workflow(host: str, ref: str) -> tuple[str, str]:
    """Give the path and the text of the workflow of a Git host."""
    path, text = HOSTS[host]
    return path, text.replace("{ref}", ref)

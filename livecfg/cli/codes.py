"""What each code means, why it is refused, and what to do about it: `livecfg explain LC204`."""

from __future__ import annotations

from typing import NamedTuple

from livecfg.refusal import Code


class Row(NamedTuple):
    """What happened, why that is refused, what to do."""

    what: str
    why: str
    advice: str


CODES: dict[Code, Row] = {
    # --- transport and mirror -----------------------------------------------------------------------------------------
    Code.FETCH_FAILED: Row(
        "The remote, the hub or the disk did not give what was asked.",
        "Nothing can be decided about a revision that is not here whole.",
        "Nothing: it is tried again, and the last good revision is served.",
    ),
    Code.LIMIT_EXCEEDED: Row(
        "A fetch was larger than the limits allow.",
        "A remote that sends without end would fill the disk or the memory of every process.",
        "Raise `GitSource(limits=…)` if the repository is meant to be that large.",
    ),
    Code.MIRROR_CORRUPT: Row(
        "The mirror's bytes are not what their ids say.",
        "Damaged or replaced objects must never reach a parser.",
        "Nothing: it is cloned anew beside and swapped; look at the disk.",
    ),
    # --- loading ------------------------------------------------------------------------------------------------------
    Code.INVALID_VALUE: Row(
        "A value breaks a rule of the application's model.",
        "The application said what it can work with; the last good revision stays in use.",
        "Change the value at the place named, or the model.",
    ),
    Code.WRONG_TYPE: Row(
        "A value is of another type than the model asks for.",
        'Text is not taken for a number, nor a number for text: "080" and 80 are different values.',
        "Change the value at the place named; quote text that looks like a number.",
    ),
    Code.MISSING_VALUE: Row(
        "The model needs a value that no layer sets.",
        "The model gives no default, so the application could not start with this revision.",
        "Add it to a layer, or give the model a default.",
    ),
    Code.UNKNOWN_KEY: Row(
        "A key that the model does not know, most often a typing error.",
        "A mistyped key would be ignored in silence, and the old value would stay in force.",
        "Correct it, or add it to the model and release that first.",
    ),
    Code.SYNTAX: Row(
        "The file is not well-formed YAML or JSON.",
        "A file that is read by halves means something else than was written.",
        "Mend it at the place named.",
    ),
    Code.DUPLICATE_KEY: Row(
        "A key stands twice in one mapping.",
        "One of its values would be lost, and which one depends on the reader.",
        "Keep one of them.",
    ),
    Code.YAML_FEATURE: Row(
        "A feature of YAML that different readers understand differently.",
        "What people review must be what applications get: `no` is a word for one reader and false for another.",
        "Write the value plainly, as the message says.",
    ),
    Code.DOCUMENT_LIMIT: Row(
        "A file, or all files of the service together, are over the limits.",
        "A huge or deeply nested file would stop every process that loads it.",
        "Split the file, or raise the limits of the client.",
    ),
    Code.MANIFEST: Row(
        "livecfg.yaml is missing or malformed.",
        "It says which files count for whom; without it no value has a meaning.",
        "Mend it; `livecfg init` writes a good one.",
    ),
    Code.MISSING_FILE: Row(
        "The first layer of the manifest is missing.",
        "The first layer must exist, so that a misspelt service or env is found at once.",
        "Add the file, or name another first layer.",
    ),
    Code.OVERRIDE: Row(
        "A local override, or an unverified source, where policy protects the value or the environment.",
        "What is protected comes from signed commits alone.",
        "Remove the variable, or use a verified source.",
    ),
    Code.SUSPENSION: Row(
        "A file that suspends a service is malformed.",
        "It is not known whether the service may take anything new over, so it does not.",
        "Mend it, or take it away; `livecfg suspend` writes a good one.",
    ),
    Code.HOLD: Row(
        "LIVECFG_HOLD names no commit of the followed ref, or more than one, or one that cannot be verified here.",
        "Whoever holds a process back wants something kept out of it; it is not known what, so nothing newer is applied.",
        "Name a commit that `git log --first-parent` shows, by more of its digits, or remove the variable.",
    ),
    Code.SECRET: Row(
        "A secret that the configuration refers to, or an encrypted document, gives no value in this process.",
        "A service must not start with an empty password, nor print one: a secret fits a field of type SecretStr alone.",
        "Set the variable, mount the file or the age key, or mend the reference at the place named.",
    ),
    # --- trust --------------------------------------------------------------------------------------------------------
    Code.UNSIGNED: Row(
        "The commit carries no signature.",
        "Author and committer are free text: without a signature nobody stands behind the change.",
        "Sign it, revert it, or let somebody whom policy allows adopt it.",
    ),
    Code.BAD_SIGNATURE: Row(
        "The signature does not match the commit, or is malformed.",
        "The commit was changed after it was signed, or was never signed by that key.",
        "Make the commit anew; find out who changed it.",
    ),
    Code.UNKNOWN_KEY_SIGNED: Row(
        "The commit is signed by a key that the policy before it does not list.",
        "A commit is judged by the policy before it, so that nobody lets themselves in.",
        "Add the key first: `livecfg keys add`, by the root people.",
    ),
    Code.KEY_NOT_VALID_NOW: Row(
        "The key is known, but not valid at the commit's time, or not for commits.",
        "`valid-after`, `valid-before` and `namespaces` in allowed_signers bound what a key may do.",
        "Sign with a valid key, or extend it first.",
    ),
    Code.NOT_CANONICAL: Row(
        "The commit object has headers that git itself does not write.",
        "Some headers are outside of what a signature covers; only plain commits are believed.",
        "Make the commit with git or livecfg.",
    ),
    Code.COMMIT_TIME: Row(
        "The commit is dated well before an earlier one.",
        "A forged date could bring an expired key back to life.",
        "Set the clock right and commit again.",
    ),
    Code.PATH_DENIED: Row(
        "No rule lets those who signed change this path.",
        "What no rule allows is denied.",
        "Ask somebody the rule names, or change the rule by the root people.",
    ),
    Code.THRESHOLD: Row(
        "Some of the people whom the rule needs are missing.",
        "The rule wants several people behind each change of this path.",
        "One more of those named runs `livecfg adopt COMMIT`.",
    ),
    Code.ROOT_REQUIRED: Row(
        "Policy, keys and manifest belong to the root people alone.",
        "Whoever may change these may change everything.",
        "Let the root people make or adopt the change.",
    ),
    Code.POLICY: Row(
        "The policy is malformed, or would lock people out.",
        "A policy that nobody can satisfy could never be mended by a commit.",
        "Mend it at the place named.",
    ),
    Code.TREE_HYGIENE: Row(
        "The tree holds something that does not belong into a configuration repository.",
        "Links, executables, submodules and odd names mean different things on different machines.",
        "Remove it in a further commit.",
    ),
    Code.MERGE: Row(
        "A merge that policy does not accept.",
        "A merge can smuggle changes in that nobody on either side has made.",
        "Merge with a signature of a person: `git merge --no-ff -S`.",
    ),
    Code.ROLLBACK: Row(
        "The branch no longer contains the last good commit.",
        "A force push could bring back an old revision that was withdrawn; a merge that was made on the other side hides one.",
        "Let the old tip come first: `git switch -C BRANCH OLD_TIP`, `git merge --no-ff -S NEW_TIP`, push; no force is needed.",
    ),
    Code.WALK_LIMIT: Row(
        "Too many commits since the last good one.",
        "Checking without end would keep every process from starting.",
        "Put the branch back to the last good commit at the Git host; for a new start, pin a newer anchor or sign a checkpoint.",
    ),
    Code.WRONG_REPOSITORY: Row(
        "The repository is not the one that the application pins.",
        "The same people may sign for several repositories; a commit counts in one only.",
        "Check URL and trusted root; `repo_id` never changes.",
    ),
    Code.PENDING: Row(
        "The change waits for approvals.",
        "The rule wants several people behind each change of this path.",
        "The people named adopt it: `livecfg adopt COMMIT`.",
    ),
    # --- flags, splits, experiments -----------------------------------------------------------------------------------
    Code.FLAG_INVALID: Row(
        "A flag is malformed.",
        "Evaluation never fails in the application, so what could fail is refused at load.",
        "Mend it at the place named.",
    ),
    Code.FLAG_REFERENCE: Row(
        "A flag names something that is not there, stands twice, or is of another type than declared.",
        "The application would get its own default and nobody would notice.",
        "Mend the reference or the declaration.",
    ),
    Code.FLAG_OPERATOR: Row(
        "A targeting rule uses an operator wrongly.",
        "The rule would give nothing for every caller.",
        "Mend the operands at the place named.",
    ),
    Code.SEGMENT_INVALID: Row(
        "The file of a segment is malformed, or its name stands twice.",
        "A member that is not what it seems would leave somebody out, or let somebody in.",
        "Write one member to a line, in plain text, each once.",
    ),
    Code.FLAG_TEST: Row(
        "A flag test of the repository fails.",
        "It says what a caller must get, and the files give something else.",
        "Change the flag, or what the test expects; `livecfg flags eval KEY --why` shows the steps.",
    ),
    Code.SPLIT_INVALID: Row(
        "A split is malformed.",
        "Weights that do not fit would move units to other arms than planned.",
        "Mend it at the place named.",
    ),
    Code.SPLIT_MISSING: Row(
        "The application declares a split that no file defines.",
        "Its code would have no arm to take.",
        "Add the file, or remove the declaration.",
    ),
    Code.FLAG_STALE: Row(
        "A flag, split or experiment has done its work: finished, past its day, or unused.",
        "Every one that stays makes the code and the rules harder to follow.",
        "Remove it from the code, then from the files; `permanent: true` in its metadata keeps a flag on purpose.",
    ),
    Code.EXPERIMENT_INVALID: Row(
        "An experiment is malformed.",
        "An assignment that is wrong from the start cannot be analysed afterwards.",
        "Mend it at the place named.",
    ),
    # --- the application ----------------------------------------------------------------------------------------------
    Code.PREPARE_VETO: Row(
        "A prepare hook of the application refused the revision.",
        "The application tried the revision before it was swapped in, and it did not work.",
        "Read its message; mend the revision or the hook.",
    ),
    Code.PREPARE_SLOW: Row(
        "A prepare hook takes longer than it should.",
        "Until it returns, the old revision is served.",
        "Look at what it waits for.",
    ),
}

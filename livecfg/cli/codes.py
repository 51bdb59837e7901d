"""What each code means and what to do about it: `livecfg explain LC204`."""

from __future__ import annotations

from livecfg.refusal import Code

CODES: dict[Code, tuple[str, str]] = {
    Code.FETCH_FAILED: (
        "The remote, the hub or the disk did not give what was asked.",
        "Nothing: it is tried again, and the last good revision is served.",
    ),
    Code.LIMIT_EXCEEDED: (
        "A fetch was larger than the limits allow.",
        "Raise `GitSource(limits=…)` if the repository is meant to be that large.",
    ),
    Code.MIRROR_CORRUPT: (
        "The mirror's bytes are not what their ids say.",
        "Nothing: it is cloned anew beside and swapped; look at the disk.",
    ),
    Code.INVALID_VALUE: (
        "A value breaks a rule of the application's model.",
        "Change the value at the place named, or the model.",
    ),
    Code.WRONG_TYPE: (
        "A value is of another type than the model asks for.",
        "Change the value at the place named; quote text that looks like a number.",
    ),
    Code.MISSING_VALUE: ("The model needs a value that no layer sets.", "Add it to a layer, or give the model a default."),
    Code.UNKNOWN_KEY: (
        "A key that the model does not know, most often a typing error.",
        "Correct it, or add it to the model and release that first.",
    ),
    Code.SYNTAX: ("The file is not well-formed YAML or JSON.", "Mend it at the place named."),
    Code.DUPLICATE_KEY: ("A key stands twice in one mapping, so one of its values would be lost.", "Keep one of them."),
    Code.YAML_FEATURE: (
        "A feature of YAML that different readers understand differently.",
        "Write the value plainly, as the message says.",
    ),
    Code.DOCUMENT_LIMIT: (
        "A file, or all files of the service together, are over the limits.",
        "Split the file, or raise the limits of the client.",
    ),
    Code.MANIFEST: ("livecfg.yaml is missing or malformed.", "Mend it; `livecfg init` writes a good one."),
    Code.MISSING_FILE: ("The first layer of the manifest must exist and does not.", "Add the file, or name another first layer."),
    Code.OVERRIDE: (
        "A local override or an unverified source where policy protects the value or the environment.",
        "Remove the variable, or use a verified source.",
    ),
    Code.UNSIGNED: ("The commit carries no signature.", "Sign it, revert it, or let somebody whom policy allows adopt it."),
    Code.BAD_SIGNATURE: (
        "The signature does not match the commit, or is malformed.",
        "Make the commit anew; find out who changed it.",
    ),
    Code.UNKNOWN_KEY_SIGNED: (
        "The commit is signed by a key that the policy before it does not list.",
        "Add the key first: `livecfg keys add`, by the root people.",
    ),
    Code.KEY_NOT_VALID_NOW: (
        "The key is known, but not valid at the commit's time, or not for commits.",
        "Sign with a valid key, or extend it first.",
    ),
    Code.NOT_CANONICAL: ("The commit object has headers that git itself does not write.", "Make the commit with git or livecfg."),
    Code.COMMIT_TIME: ("The commit is dated well before an earlier one.", "Set the clock right and commit again."),
    Code.PATH_DENIED: (
        "No rule lets those who signed change this path.",
        "Ask somebody the rule names, or change the rule by the root people.",
    ),
    Code.THRESHOLD: (
        "Some of the people whom the rule needs are missing.",
        "One more of those named runs `livecfg adopt COMMIT`.",
    ),
    Code.ROOT_REQUIRED: (
        "Policy, keys and manifest belong to the root people alone.",
        "Let the root people make or adopt the change.",
    ),
    Code.POLICY: ("The policy is malformed, or would lock people out.", "Mend it at the place named."),
    Code.TREE_HYGIENE: (
        "The tree holds something that does not belong into a configuration repository.",
        "Remove it in a further commit.",
    ),
    Code.MERGE: ("A merge that policy does not accept.", "Merge with a signature of a person: `git merge --no-ff -S`."),
    Code.ROLLBACK: ("The branch no longer contains the last good commit.", "Push the old tip again, then revert on top of it."),
    Code.WALK_LIMIT: ("Too many commits since the last good one.", "Raise the limit, or pin a newer anchor."),
    Code.WRONG_REPOSITORY: (
        "The repository is not the one that the application pins.",
        "Check URL and trusted root; `repo_id` never changes.",
    ),
    Code.PENDING: ("The change waits for approvals.", "The people named adopt it: `livecfg adopt COMMIT`."),
    Code.FLAG_INVALID: ("A flag is malformed.", "Mend it at the place named."),
    Code.FLAG_REFERENCE: (
        "A flag names something that is not there, stands twice, or is of another type than declared.",
        "Mend the reference or the declaration.",
    ),
    Code.FLAG_OPERATOR: ("A targeting rule uses an operator wrongly.", "Mend the operands at the place named."),
    Code.SPLIT_INVALID: ("A split is malformed.", "Mend it at the place named."),
    Code.SPLIT_MISSING: ("The application declares a split that no file defines.", "Add the file, or remove the declaration."),
    Code.EXPERIMENT_INVALID: ("An experiment is malformed.", "Mend it at the place named."),
    Code.PREPARE_VETO: (
        "A prepare hook of the application refused the revision.",
        "Read its message; mend the revision or the hook.",
    ),
    Code.PREPARE_SLOW: (
        "A prepare hook takes longer than it should.",
        "Look at what it waits for; the old revision is served meanwhile.",
    ),
}

"""`livecfg secrets encrypt|decrypt|edit|rotate`: SOPS documents with age recipients, made and opened without the `sops` program.

`rule` says which values, for whom; `sealing` encrypts values; `layout` and `text` put them into the text and take them out of it;
`files` reads and replaces whole files; `verbs` is what people call; `whole` finds documents that were changed without their key.
"""

from __future__ import annotations

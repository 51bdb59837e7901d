"""The world around livecfg, made of real parts: a repository made by `git`, keys by `ssh-keygen`, servers on loopback, a clock.

```python
repo = ConfigRepo(tmp_path)
repo.found({"config/checkout/base.yaml": "payment_timeout_s: 2.0\n"})
tip = repo.commit({"config/checkout/base.yaml": "payment_timeout_s: 3.0\n"}, by="ana@acme")
repo.push()
with GitHttpServer(repo.path) as server:
    url = server.url(repo.remote_path)
```
"""

from __future__ import annotations

from tests.simulator.clock import Clock
from tests.simulator.faults import Fault
from tests.simulator.keys import Key, make_key
from tests.simulator.repo import REPO_ID, ConfigRepo
from tests.simulator.servers import GitDaemon, GitHttpServer, closed_port
from tests.simulator.tls import Tls, make_tls

__all__ = [
    "REPO_ID",
    "Clock",
    "ConfigRepo",
    "Fault",
    "GitDaemon",
    "GitHttpServer",
    "Key",
    "Tls",
    "closed_port",
    "make_key",
    "make_tls",
]

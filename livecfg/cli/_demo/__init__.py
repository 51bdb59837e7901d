"""The demo: a signed repository, a Git server, a hub and an application with four workers, all on this machine.

`site` starts and stops them, `repository` makes commits, `gitserver` serves them, `app` is the application, `story` tells and
checks what happens, `terminal` writes it.
"""

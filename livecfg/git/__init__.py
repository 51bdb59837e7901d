"""The only code that touches a Git remote or the mirror on disk.

`source` is plain data and cheap to import; everything else loads dulwich and belongs behind the first read.
"""

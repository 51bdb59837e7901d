"""The hub: who runs what is applied where. Optional, and trusted by no one."""

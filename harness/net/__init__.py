"""Everything that touches the kernel's network: netlink, namespaces, the sandbox, the zygote, Mininet's API over them.

Modules import each other downwards only: ``netlink`` (framing) < ``requests``, ``records`` < ``rtnl``, ``monitor`` <
``namespace`` < ``zygote``, ``mininet``. ``sandbox``, ``supervisor`` and ``door`` stand apart and need none of them.
"""

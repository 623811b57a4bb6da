"""`./run vm`: the labs in a virtual machine of our own, for the kernels that users have and this machine may lack.

A Debian root with Debian's cloud kernel and the project's set-up baked in (`image`), an initial RAM disk of our own (`initrd`), QEMU
(`machine`), a tar in and a tar out (`job`). Only the standard library: it runs before anything else of the project is installed.
"""

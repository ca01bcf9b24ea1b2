"""Tests, and programs that they run in processes of their own."""

import os
import sys

# A run starts hundreds of processes. Without bytecode each compiles the package, and each worker of pytest all tests;
# an environment that asks for none, as many container images do, means what is installed.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

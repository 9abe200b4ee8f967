"""Generated functions as machine code, without Numba.

Numba takes 1.5 ms for every operation of such code, nearly all of it for finding types, which are known here; this
takes a tenth. What comes out is the same: LLVM optimises it for this processor. The functions of a module lie in memory
of their own, which is given back with the module. A view that is only read is taken to overlap no view that is written.
"""

from __future__ import annotations

import ast
import ctypes
import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import llvmlite
from llvmlite import binding, ir
from numba import types

from ctrnn.fields import compiler, instructions
from ctrnn.fields.compiler import Compiler

#: instructions of a module beyond which nothing is left to gain: what occurs twice is computed once already, and LLVM's
#: passes take times that grow with the square
OPTIMISED = 40_000
#: instructions of a block beyond which LLVM's quick allocation of registers is taken: the time of its better one grows
#: with the square (2,400 take 0.3 s, 5,000 7 s, 10,000 half a minute), for code that runs two times as fast
ALLOCATED = 4_000


class Native:
    """A function of a generated module.

    ``address`` is known once the module has been loaded by ctrnn.fields.codegen.
    """

    __native__ = True

    def __init__(self, function: Callable[..., None], signature: Any, contract: bool) -> None:
        self.function, self.signature, self.contract = function, signature, contract
        self.__name__ = function.__name__
        self.address = 0
        #: 1 where the machine code was found on disk
        self.cache_hits = 0
        self._library: Any = None

    @property
    def ctypes(self) -> Any:
        """The function as one of ctypes."""
        kinds: dict[Any, Any] = {types.int64: ctypes.c_int64, types.float64: ctypes.c_double}
        call = ctypes.CFUNCTYPE(None, *(kinds[a] for a in self.signature.args))(self.address)
        call.native = self  # type: ignore[attr-defined]  # its memory lives as long as this
        return call

    def load(self, library: Library, found: bool) -> None:
        """Take the function from a library; ``found``: it came from the cache."""
        self._library, self.cache_hits = library, int(found)
        self.address = library.address(self.__name__)


def native(signature: Any, contract: bool = False) -> Callable[[Callable[..., None]], Native]:
    """The decorator of a function that is compiled; ``contract``: a·b + c may be one operation."""
    return lambda function: Native(function, signature, contract)


def doubles(address: int, shape: Any) -> Any:
    """In compiled functions: the float64 array of a shape at an address."""
    raise NotImplementedError("only in compiled functions")


integers = scratch = table = doubles


class Library:
    """Machine code in memory, for as long as somebody holds it."""

    def __init__(self, code: bytes) -> None:
        _initialize()
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())
        self._engine.add_object_file(binding.object_file.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """The address of a function of that name."""
        return int(self._engine.get_function_address(name))


@lru_cache(maxsize=1)
def _initialize() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def _machine(level: int = 3) -> Any:
    _initialize()
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=level,
        reloc="static" if target.name.startswith("x86") else "default",
        codemodel="jitdefault",
        jit=True,
    )


@lru_cache(maxsize=1)
def processor() -> str:
    """What machine code depends on besides its source: a digest of the processor and of the compiler."""
    _initialize()
    parts = [binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    own = (compiler, instructions, sys.modules[__name__])
    parts += [llvmlite.__version__, *(inspect.getsource(module) for module in own)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def compiled(source: str, functions: Sequence[Native]) -> bytes:
    """The machine code of functions, whose text is in ``source``."""
    bodies = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    module = ir.Module("generated")
    module.triple = binding.get_process_triple()
    blocks = [0]
    for function in functions:
        made = Compiler(module, function.function, function.signature, function.contract, bodies[function.__name__])
        made.run()
        blocks += [len(block.instructions) for block in made.function.blocks]
    machine = _machine(3 if max(blocks) <= ALLOCATED else 0)
    context = binding.create_context()  # of its own: what LLVM keeps of a module goes with it
    parsed = binding.parse_assembly(str(module), context)
    parsed.verify()
    if sum(blocks) <= OPTIMISED:
        options = binding.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization, options.slp_vectorization = True, False
        builder = binding.create_pass_builder(machine, options)
        builder.getModulePassManager().run(parsed, builder)
    return bytes(machine.emit_object(parsed))

"""Which processor the machine code of a layer is for. An image for this machine is proven by running it; one for
another processor, which cannot be, has the header of every program and library in it read instead."""

from __future__ import annotations

from collections.abc import Sequence

from lightship.cache import Cache
from lightship.errors import VerificationError
from lightship.layers.layer import Layer, plain_tar
from lightship.layers.tar_stream import Kind, TarStream

# e_machine of general-purpose processors (elf.h). Code for accelerators (CUDA, AMD GPUs, BPF) lies in wheels for all.
MACHINES = {3: "i386", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}
_VERSION = 1
_HEAD = 20  # bytes up to and with e_machine
_SHOWN = 5  # paths in a message


def check_processor(layers: Sequence[Layer], architecture: str, cache: Cache) -> None:
    """Raise `VerificationError` where a layer has a program or library for another processor than `architecture`."""
    wrong = {}
    for layer in layers:
        for path, machine in machine_code(layer, cache).items():
            if machine != architecture:
                wrong[path] = (machine, layer.title)
    if wrong:
        first = ", ".join(
            f"/{path} ({machine}, of {title})" for path, (machine, title) in sorted(wrong.items())[:_SHOWN]
        )
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise VerificationError(
            f"The image for {architecture} holds machine code for another processor: {first}{more}.",
            hint="Take another version or build of the package, whose wheel for this platform is what its name says; "
            "files of your own that are not needed there can be named in [image] exclude.",
        )


def machine_code(layer: Layer, cache: Cache) -> dict[str, str]:
    """The shared libraries and programs of a layer by path, each with its processor; read once, then remembered."""
    key = f"{layer.diff_id.removeprefix('sha256:')}-{_VERSION}"
    if (record := cache.read_record("machine-code", key)) is not None:
        return {str(path): str(machine) for path, machine in record.items()}
    found = {}
    with plain_tar(layer, cache) as chunks:
        stream = TarStream(chunks, f"The layer {layer.title!r}")
        for entry in stream:
            if entry.kind is not Kind.FILE or entry.size < _HEAD:
                continue
            if not (entry.mode & 0o111 or ".so" in entry.path.rpartition("/")[2]):
                continue  # nothing that is loaded or run, such as the object files of a test
            if machine := _machine(stream):
                found[entry.path] = machine
    cache.write_record("machine-code", key, dict(found))
    return found


def _machine(stream: TarStream) -> str | None:
    """The processor that the current entry's ELF header names; None where it names none of them."""
    head = b""
    for piece in stream.content():
        head += bytes(piece[: _HEAD - len(head)])
        if len(head) >= _HEAD:
            break
    if head[:4] != b"\x7fELF":
        return None
    return MACHINES.get(int.from_bytes(head[18:20], "big" if head[5:6] == b"\x02" else "little"))

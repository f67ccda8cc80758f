"""The interpreter computes what PTX says, and notices what it leaves undefined."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from .block import launch
from .errors import ProgramError, RaceError
from .memory import Memory
from .program import Address, parse

if TYPE_CHECKING:
    from numpy.typing import NDArray


def run(body: str, *arrays: NDArray[Any], threads: int = 32, shared: int = 4096, blocks: int = 1) -> list[NDArray[Any]]:
    """Run a kernel on arrays, whose addresses are in %rd0, %rd1, …; return what is in them afterwards."""
    parameters = ",\n".join(f"\t.param .u64 .ptr .global .align 1 p{index}" for index in range(len(arrays)))
    loads = "".join(f"ld.param.b64 %rd{index}, [p{index}];\n" for index in range(len(arrays)))
    text = f".visible .entry kernel(\n{parameters}\n)\n.reqntid {threads}\n{{\n\t.reg .b32 %r<9>;\n{loads}{body}\n}}\n"
    memory = Memory()
    starts = [memory.allocate(array.view(np.uint8).ravel()) for array in arrays]
    launch(parse(text), memory, {f"p{index}": start for index, start in enumerate(starts)}, shared, blocks)
    return [
        memory.data[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        for start, array in zip(starts, arrays, strict=True)
    ]


def test_statements_are_read() -> None:
    program = parse(
        ".visible .entry k(\n\t.param .u32 k_param_0,\n\t.param .u64 .ptr .global .align 1 k_param_1\n)\n"
        ".reqntid 64\n{\n\t.reg .b32 %r<5>;\n$L__BB0_1:  // a comment; with a semicolon\n\t.loc\t1 30 0\n"
        "\t@!%p1 ld.shared.v2.b32 \t{%r1, _}, [ %r3 + -4 ];\n\t{ mov.b32 %r2, {%rs1, %rs2}; }\n"
        "\t@%p1 bra \t$L__BB0_1;\n\tret;\n}\n\t.section\t.debug;\n"
    )
    assert program.parameters == {"k_param_0": "u32", "k_param_1": "u64"}
    assert (program.threads, program.labels) == (64, {"$L__BB0_1": 0})
    load, pack, branch, leave = program.instructions
    assert (load.parts, load.guard, load.negated) == (("ld", "shared", "v2", "b32"), "%p1", True)
    assert load.operands == (("%r1", "_"), Address("%r3", -4))
    assert pack.operands == ("%r2", ("%rs1", "%rs2"))
    assert (branch.guard, branch.negated, branch.operands) == ("%p1", False, ("$L__BB0_1",))
    assert leave.name == "ret"


def bits(number: float) -> int:
    """Of a float32."""
    return int(struct.unpack("<I", struct.pack("<f", number))[0])


NAN = bits(float("nan"))


@pytest.mark.parametrize(
    ("instruction", "inputs", "expected"),
    [
        ("add.s32 %r0, %r1, %r2", (-3, 5), 2),
        ("sub.s32 %r0, %r1, %r2", (3, 5), -2),
        ("mad.lo.s32 %r0, %r1, %r2, %r3", (1 << 20, 1 << 12, 7), 7),
        ("mul.hi.s32 %r0, %r1, %r2", (-1, 3), -1),
        ("mul.hi.u32 %r0, %r1, %r2", (-1, 3), 2),
        ("div.s32 %r0, %r1, %r2", (-7, 2), -3),
        ("rem.s32 %r0, %r1, %r2", (-7, 2), -1),
        ("rem.u32 %r0, %r1, %r2", (-1, 16), 15),
        ("min.s32 %r0, %r1, %r2", (-1, 1), -1),
        ("min.u32 %r0, %r1, %r2", (-1, 1), 1),
        ("shl.b32 %r0, %r1, %r2", (3, 32), 0),
        ("shr.u32 %r0, %r1, %r2", (-8, 31), 1),
        ("shr.s32 %r0, %r1, %r2", (-8, 1), -4),
        ("shr.s32 %r0, %r1, %r2", (-8, 99), -1),
        ("shr.u32 %r0, %r1, %r2", (-8, 99), 0),
        ("bfe.u32 %r0, %r1, %r2, %r3", (0xABCD, 4, 8), 0xBC),
        ("bfe.s32 %r0, %r1, %r2, %r3", (0xABCD, 4, 8), 0xBC - 256),
        ("bfi.b32 %r0, %r1, %r2, %r3, %r4", (0x5, -1, 4, 8), 0xFFFFF05F),
        ("prmt.b32 %r0, %r1, %r2, %r3", (0x80112233, 0x44556677, 0xB407), 0xFF773344),
        ("lop3.b32 %r0, %r1, %r2, %r3, 0x96", (0b1100, 0b1010, 0b0001), 0b0111),
        ("not.b32 %r0, %r1", (5,), -6),
        ("neg.s32 %r0, %r1", (5,), -5),
        ("cvt.rni.s32.f32 %r0, %r1", (bits(2.5),), 2),
        ("cvt.rzi.s32.f32 %r0, %r1", (bits(-2.5),), -2),
        ("cvt.rzi.u32.f32 %r0, %r1", (bits(-2.5),), 0),
        ("cvt.rmi.f32.f32 %r0, %r1", (bits(-2.5),), bits(-3.0)),
        ("cvt.rn.f32.s32 %r0, %r1", (-7,), bits(-7.0)),
        ("cvt.rn.f16x2.f32 %r0, %r1, %r2", (bits(1.0), bits(2.0)), 0x3C004000),
        ("cvt.rn.bf16x2.f32 %r0, %r1, %r2", (0x3F808000, 0x3F818000), 0x3F803F82),  # ties go to even
        ("cvt.s32.s8 %r0, %r1", (0x80,), -128),
        ("cvt.u32.u8 %r0, %r1", (0x180,), 0x80),
        ("fma.rn.f32 %r0, %r1, %r2, %r3", (bits(1 + 2**-12), bits(1 + 2**-12), bits(-1 - 2**-11)), bits(2**-24)),
        ("max.f32 %r0, %r1, %r2", (NAN, bits(1.0)), bits(1.0)),
        ("min.f16x2 %r0, %r1, %r2", (0x3C00C000, 0x00000000), 0x0000C000),  # of 1 and −2, and 0
        ("fma.rn.f16x2 %r0, %r1, %r2, %r3", (0x40003C00, 0x42003800, 0x00003C00), 0x46003E00),
        ("fma.rn.bf16x2 %r0, %r1, %r2, %r3", (0x40003F80, 0x40403F00, 0x00003F80), 0x40C03FC0),
        ("ex2.approx.f32 %r0, %r1", (bits(3.0),), bits(8.0)),
        ("selp.b32 %r0, %r1, %r2, 0", (1, 2), 2),
    ],
)
def test_an_instruction_computes_what_the_isa_says(instruction: str, inputs: tuple[int, ...], expected: int) -> None:
    moves = "".join(f"mov.b32 %r{index}, {value};" for index, value in enumerate(inputs, 1))
    (found,) = run(f"{moves}{instruction};st.global.b32 [%rd0], %r0;", np.zeros(1, np.uint32), threads=1)
    assert int(found[0]) == expected & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("how", "inputs", "expected"),
    [
        ("lt.s32", (-1, 1), 1),
        ("lt.u32", (-1, 1), 0),
        ("hs.u32", (-1, 1), 1),
        ("lt.f32", (NAN, 0), 0),
        ("ltu.f32", (NAN, 0), 1),
        ("ne.f32", (NAN, 0), 0),
        ("neu.f32", (NAN, 0), 1),
    ],
)
def test_comparisons(how: str, inputs: tuple[int, int], expected: int) -> None:
    body = f"setp.{how} %p1, {inputs[0]}, {inputs[1]};\nselp.b32 %r0, 1, 0, %p1;\nst.global.b32 [%rd0], %r0;"
    (found,) = run(body, np.zeros(1, np.uint32), threads=1)
    assert int(found[0]) == expected


# Of thread t, %r2 is 4 · t.
THREAD = "mov.u32 %r1, %tid.x;\nshl.b32 %r2, %r1, 2;\n"
PLACE = "mad.wide.u32 %rd9, %r1, 4, %rd0;\n"


def test_threads_loop_and_choose() -> None:
    body = f"""{THREAD}{PLACE}
        mov.b32 %r3, 0; mov.b32 %r4, 5;
        $L__BB0_1: add.s32 %r3, %r3, %r1; add.s32 %r4, %r4, -1; setp.ne.b32 %p1, %r4, 0; @%p1 bra $L__BB0_1;
        mov.u32 %r5, %ctaid.x; mad.wide.u32 %rd9, %r5, 128, %rd9;
        setp.lt.u32 %p2, %r1, 4; @!%p2 mov.b32 %r3, 1; setp.lt.u32 %p3, %r1, 6; @%p3 st.global.b32 [%rd9], %r3;"""
    (found,) = run(body, np.full(64, 99, np.uint32), blocks=2, threads=8)
    assert found[:8].tolist() == found[32:40].tolist() == [0, 5, 10, 15, 1, 1, 99, 99]
    assert (np.delete(found, [*range(8), *range(32, 40)]) == 99).all()


EXCHANGE = f"""{THREAD}{PLACE} st.shared.b32 [%r2], %r1; BARRIER xor.b32 %r3, %r2, 128; ld.shared.b32 %r4, [%r3];
    AGAIN st.shared.b32 [%r2], %r4; st.global.b32 [%rd9], %r4;"""


def test_shared_memory_is_exchanged_between_barriers() -> None:
    body = EXCHANGE.replace("BARRIER", "bar.sync 0;").replace("AGAIN", "bar.sync 0;")
    (found,) = run(body, np.zeros(64, np.uint32), threads=64)
    assert found.tolist() == [*range(32, 64), *range(32)]


COPY = f"""{THREAD}{PLACE} shl.b32 %r5, %r1, 4; cp.async.cg.shared.global [%r5], [%rd0], 16, 16; cp.async.commit_group;
    WAIT BARRIER ld.shared.b32 %r4, [%r2];"""


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (EXCHANGE.replace("BARRIER", "").replace("AGAIN", "bar.sync 0;"), "a read after a write without a barrier"),
        (EXCHANGE.replace("BARRIER", "bar.sync 0;").replace("AGAIN", ""), "a write after a read without a barrier"),
        (f"{THREAD}st.shared.b32 [0], %r1;", "two threads write different values"),
        ("mov.u32 %r1, %ctaid.x; st.global.b32 [%rd0], %r1;", "what another block has written"),
        (COPY.replace("WAIT", "").replace("BARRIER", "bar.sync 0;"), "a read of what a copy is still writing"),
        (COPY.replace("WAIT", "cp.async.wait_group 1;").replace("BARRIER", "bar.sync 0;"), "a copy is still writing"),
        (COPY.replace("WAIT", "cp.async.wait_group 0;").replace("BARRIER", ""), "a read after a write without"),
    ],
)
def test_races_are_noticed(body: str, error: str) -> None:
    with pytest.raises(RaceError, match=error):
        run(body, np.zeros(64, np.uint32), threads=64, blocks=2)


def test_what_a_copy_brings_is_there_after_the_wait_and_the_barrier() -> None:
    body = COPY.replace("WAIT", "cp.async.wait_group 0;").replace("BARRIER", "bar.sync 0;")
    given = np.arange(4, dtype=np.uint32) + 7
    store = "mad.wide.u32 %rd8, %r1, 4, %rd1; st.global.b32 [%rd8], %r4;"
    _, found = run(f"{body} {store}", given, np.zeros(64, np.uint32), threads=64)
    assert found.tolist() == given.tolist() * 16


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("ld.global.b32 %r1, [%rd0 + 4];", "outside of what was allocated"),
        ("st.global.b8 [%rd0 + -1], %r1;", "outside of what was allocated"),
        ("ld.shared.b32 %r1, [4096];", "outside of what was allocated"),
        ("ld.global.b32 %r1, [%rd0 + 2];", "not aligned"),
        (f"{THREAD}setp.eq.b32 %p1, %r1, 0; @%p1 bra $L; $L: ret;", "threads of a block part ways"),
        ("$L: bra $L;", "an endless loop"),
        ("sad.u32 %r1, %r2, %r3, %r4;", r"not known here \(instruction 1: sad.u32 %r1"),
        ("add.sat.s32 %r1, %r2, %r3;", "not known here"),
        (f"{THREAD}setp.lt.u32 %p1, %r1, 8; @%p1 bar.sync 0;", "a barrier of all threads"),
    ],
)
def test_what_no_program_may_do_is_an_error(body: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.kernels.ptx.block._STEPS", 100)
    with pytest.raises(ProgramError, match=error):
        run(body, np.zeros(1, np.uint32))

"""Matrices go to the threads that the PTX ISA names, and are multiplied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from .errors import RaceError
from .matrix import _places
from .test_interpreter import PLACE, THREAD, run

RANDOM = np.random.default_rng(0)


def small(*shape: int) -> NDArray[Any]:
    """Numbers of which float16 and bfloat16 hold every product exactly."""
    return RANDOM.integers(-8, 9, shape).astype(np.float32)


def halves(x: NDArray[Any], kind: str) -> NDArray[Any]:
    """As uint16 bits."""
    return x.astype(np.float16).view(np.uint16) if kind == "f16" else (x.view(np.uint32) >> 16).astype(np.uint16)


# Each lane copies 16 bytes, row by row, from the first array to shared memory.
FILL = f"""{THREAD} shl.b32 %r3, %r1, 4; cvt.u64.u32 %rd8, %r3; add.s64 %rd8, %rd0, %rd8;
    ld.global.v4.b32 {{%r10, %r11, %r12, %r13}}, [%rd8]; st.shared.v4.b32 [%r3], {{%r10, %r11, %r12, %r13}}; bar.sync 0;
    """


@pytest.mark.parametrize("transposed", ["", ".trans"])
def test_a_matrix_is_loaded_and_stored(transposed: str) -> None:
    x = RANDOM.integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
    body = f"""{FILL} ldmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 {{%r4, %r5, %r6, %r7}}, [%r3];
        mad.wide.u32 %rd9, %r1, 16, %rd1; st.global.v4.b32 [%rd9], {{%r4, %r5, %r6, %r7}};
        stmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 [%r3 + 512], {{%r4, %r5, %r6, %r7}};
        ld.shared.v4.b32 {{%r4, %r5, %r6, %r7}}, [%r3 + 512];
        mad.wide.u32 %rd9, %r1, 16, %rd2; st.global.v4.b32 [%rd9], {{%r4, %r5, %r6, %r7}};"""
    _, loaded, stored = run(body, x, np.zeros((32, 4, 2), np.uint16), np.zeros_like(x))
    seen = x.swapaxes(1, 2) if transposed else x
    for lane in (0, 1, 5, 31):
        assert loaded[lane].tolist() == seen[:, lane // 4, lane % 4 * 2 : lane % 4 * 2 + 2].tolist()
    assert (stored == x).all()


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_a_warp_multiplies(kind: str) -> None:
    a, b, c = small(16, 16), small(16, 8), small(16, 8)
    quarters = [a[:8, :8], a[8:, :8], a[:8, 8:], a[8:, 8:]]
    given = halves(np.concatenate([*quarters, b[:8], b[8:]]), kind)
    body = f"""{THREAD} setp.lt.u32 %p1, %r1, 16; shl.b32 %r3, %r1, 4; mad.wide.u32 %rd8, %r1, 16, %rd0;
        ld.global.v4.b32 {{%r10, %r11, %r12, %r13}}, [%rd8]; st.shared.v4.b32 [%r3], {{%r10, %r11, %r12, %r13}};
        @%p1 ld.global.v4.b32 {{%r10, %r11, %r12, %r13}}, [%rd8 + 512];
        @%p1 st.shared.v4.b32 [%r3 + 512], {{%r10, %r11, %r12, %r13}}; bar.sync 0;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r4, %r5, %r6, %r7}}, [%r3];
        and.b32 %r3, %r3, 255; ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {{%r8, %r9}}, [%r3 + 512];
        shr.u32 %r14, %r1, 2; and.b32 %r15, %r1, 3; shl.b32 %r14, %r14, 5; mad.lo.s32 %r14, %r15, 8, %r14;
        cvt.u64.u32 %rd9, %r14; add.s64 %rd9, %rd1, %rd9;
        ld.global.v2.b32 {{%r20, %r21}}, [%rd9]; ld.global.v2.b32 {{%r22, %r23}}, [%rd9 + 256];
        mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32
            {{%r20, %r21, %r22, %r23}}, {{%r4, %r5, %r6, %r7}}, {{%r8, %r9}}, {{%r20, %r21, %r22, %r23}};
        st.global.v2.b32 [%rd9], {{%r20, %r21}}; st.global.v2.b32 [%rd9 + 256], {{%r22, %r23}};"""
    _, found = run(body, given, c)
    assert (found == a @ b + c).all()


def core_matrices(x: NDArray[Any]) -> NDArray[Any]:
    """(rows, 16) as 8 × 8 matrices of 128 bytes: first those side by side, then those below."""
    return x.reshape(-1, 8, 2, 8).swapaxes(1, 2)


GROUP = """{fill} FENCE
    mov.b64 %rd10, 0x0000001000080000; mov.b64 %rd11, 0x0000001000080080;
    and.b32 %r20, %r1, 0; ORDER mov.b32 %r21, 0;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.{kind}.{kind} {{%r20, %r21, %r22, %r23}}, %rd10, %rd11, 0, 1, 1, 0, 0;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.{kind}.{kind} {{%r20, %r21, %r22, %r23}}, %rd10, %rd11, 1, 1, 1, 0, 0;
    wgmma.commit_group.sync.aligned; OVERWRITE wgmma.wait_group.sync.aligned WAIT;
    mad.wide.u32 %rd9, %r1, 16, %rd1; st.global.v4.b32 [%rd9], {{%r20, %r21, %r22, %r23}};"""


def group(kind: str, **changes: str) -> str:
    fill = f"""{THREAD}{PLACE} shl.b32 %r3, %r1, 4; mad.wide.u32 %rd8, %r1, 16, %rd0; setp.lt.u32 %p1, %r1, 16;
        ld.global.v4.b32 {{%r10, %r11, %r12, %r13}}, [%rd8]; st.shared.v4.b32 [%r3], {{%r10, %r11, %r12, %r13}};
        @%p1 ld.global.v4.b32 {{%r10, %r11, %r12, %r13}}, [%rd8 + 2048];
        @%p1 st.shared.v4.b32 [%r3 + 2048], {{%r10, %r11, %r12, %r13}}; bar.sync 0;"""
    body = GROUP.format(fill=fill, kind=kind)
    for word, default in {
        "FENCE": "fence.proxy.async.shared::cta;",
        "ORDER": "wgmma.fence.sync.aligned;",
        "OVERWRITE": "",
        "WAIT": "0",
    }.items():
        body = body.replace(word, changes.get(word.lower(), default))
    return body


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_a_warpgroup_multiplies(kind: str) -> None:
    a, b = small(64, 16), small(8, 16)
    given = halves(np.concatenate([core_matrices(a).ravel(), core_matrices(b).ravel()]), kind)
    _, found = run(group(kind), given, np.zeros((128, 4), np.float32), threads=128)
    expected = 2 * (a @ b.T)
    for thread in (0, 3, 4, 31, 32, 127):
        row, column = thread // 32 * 16 + thread % 32 // 4, thread % 4 * 2
        assert found[thread, :2].tolist() == expected[row, column : column + 2].tolist()
        assert found[thread, 2:].tolist() == expected[row + 8, column : column + 2].tolist()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"fence": ""}, "no proxy fence"),
        ({"order": ""}, "no wgmma.fence between a write to %r20"),
        ({"wait": "1"}, "is read before the product"),
        ({"overwrite": "mov.b32 %r21, 0;"}, "is written before the product"),
        ({"overwrite": "bar.sync 0; st.shared.b32 [%r3], %r1;"}, "what a matrix unit is still reading"),
        ({"overwrite": "st.shared.b32 [%r3], %r1;"}, "what a matrix unit is still reading"),
    ],
)
def test_products_that_are_not_waited_for_are_noticed(changes: dict[str, str], error: str) -> None:
    with pytest.raises(RaceError, match=error):
        run(group("f16", **changes), np.zeros(1152, np.uint16), np.zeros((128, 4), np.float32), threads=128)


def test_registers_that_a_product_reads_stay_as_they_are() -> None:
    body = group("f16", overwrite="mov.b32 %r31, 0;")
    body = body.replace("%rd10, %rd11, 0, 1, 1, 0, 0", "{%r30, %r31, %r32, %r33}, %rd11, 0, 1, 1, 0")
    with pytest.raises(RaceError, match="%r31 is written before the product that reads it is done"):
        run(body, np.zeros(1152, np.uint16), np.zeros((128, 4), np.float32), threads=128)


@pytest.mark.parametrize(("mode", "wide"), [(1, 128), (2, 64), (3, 32)])
def test_swizzled_rows_are_permuted_in_their_pattern(mode: int, wide: int) -> None:
    """Of the rows of a pattern, 16-byte chunks change places, so that a column of them lies in different banks."""
    places = _places(mode << 62 | (8 * wide // 16) << 32, 16, transposed=False)
    assert len(np.unique(places)) == 256
    chunks = places[:8, 0] % 128 // 16
    assert sorted(np.bincount(chunks, minlength=8).tolist()) == [1] * 8 if wide == 128 else len(set(chunks)) == 8
    assert (places[:, 1::2] == places[:, ::2] + 2).all()
    assert places[0, :8].tolist() == list(range(0, 16, 2))
